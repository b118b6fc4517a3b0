// Claims of the documents that once were not true, held against the code or against each other.

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { commandLine, rootDirectory, run } from './node-command'

const read = (path: string): string => readFileSync(join(rootDirectory, path), 'utf8')

/** A text without its line breaks. */
const flat = (path: string): string => read(path).replaceAll(/\s+/g, ' ')

test('the udev rules in docs/json.md are those that the command prints', async (t) => {
  const { stdout } = await run([commandLine, 'doctor', '--udev-rule', '--json'])
  const { path, text } = JSON.parse(stdout) as { path: string; text: string }
  const [, block = ''] =
    /definition `udevRule`\.\s+```json\n(.*?)```/s.exec(read('docs/json.md')) ?? []
  t.deepEqual(JSON.parse(block), { path, text })
})

test('every link of the packed README leads to a file of the release or to the web', async (t) => {
  const manifest = JSON.parse(read('package.json')) as { version: string }
  const { packedReadme } = (await import(join(rootDirectory, 'tools/readme.mjs'))) as {
    packedReadme(text: string, of: typeof manifest): string
  }
  const links = [...packedReadme(read('README.md'), manifest).matchAll(/\]\(([^)]+)\)/g)]
  const base = 'https://github.com/vmclock/vmclock/'
  const targets = links.map(([, target = '']) => target)
  const own = targets.filter((target) => target.startsWith(base))
  t.true(own.length > 20)
  for (const target of own) {
    const [, kind, tag, path = ''] =
      /^(blob|raw)\/([^/]+)\/([^#]+)/.exec(target.slice(base.length)) ?? []
    t.is(tag, `v${manifest.version}`, target)
    t.is(kind, path.endsWith('.svg') ? 'raw' : 'blob', target)
    t.true(existsSync(join(rootDirectory, path)), target)
  }
  // A heading of this README, or another site.
  t.deepEqual(
    targets.filter((target) => !own.includes(target) && !/^(?:#|https:)/.test(target)),
    [],
  )
})

test('no advice puts a launcher between the supervisor and the publisher', (t) => {
  for (const file of readdirSync(join(rootDirectory, 'docs')).filter((name) =>
    /\.md$/.test(name),
  )) {
    const text = read(`docs/${file}`)
    t.notRegex(
      text,
      /^\s*(?:command:|entrypoint:|CMD|ENTRYPOINT).*\b(?:npx|npm|yarn|pnpm)\b/m,
      file,
    )
    t.notRegex(text, /ExecStart=.*\b(?:npx|npm|yarn|pnpm)\b/, file)
  }
})

for (const [file, wrong, right] of [
  ['docs/ptp.md', /of any page that has time/, /never makes one of a monotonic page/],
  ['ts/doctor/phc.ts', /^$/, /does not help a page in another timescale/],
  ['README.md', /on any Linux machine/, /ERR_VMCLOCK_UNTRUSTED_COUNTER/],
  ['README.md', /within 100 ms/, /within 150 ms/],
  ['SECURITY.md', /after 100 ms at most/, /100 to 150 ms/],
  ['SECURITY.md', /alone makes releases/, /first version by hand/],
  ['SECURITY.md', /signatures` in your project checks that/, /signature, name and digest/],
  ['SECURITY.md', /^$/, /all users that it does not map have one number/],
  ['docs/bounds.md', /^$/, /does not map counts as nobody/],
  ['docs/publishing.md', /often 65534\. Name it in/, /trusts all of them/],
  ['docs/performance.md', /calls it without Node-API/, /no Node-API call/],
  ['docs/performance.md', /`clock-bound` 3 and/, /3\.0\.0-rc\.0/],
  ['docs/getting-started.md', /Node 20\.19 or later\. /, /even releases are tested/],
  ['README.md', /since version 3 /, /3\.0\.0-rc\.0/],
  ['README.md', /^$/, /Nothing is published on npm yet/],
  ['README.md', /^$/, /version 1\.0 differ/],
  ['README.md', /^$/, /--max-error/],
  ['docs/getting-started.md', /^$/, /`--max-error`/],
  ['docs/getting-started.md', /^$/, /`hasTime`.*`isUsable`/],
  ['ts/doctor/device-checks.ts', /^$/, /25\.10/],
  ['ts/watcher.ts', /0\.03 % of a CPU/, /0\.05 to 0\.07 %/],
  ['docs/machines.md', /Debian builds it as a module\./, /Firecracker since 1\.15\.0/],
] as const) {
  test(`a corrected claim stays corrected: ${file} ${right.source.slice(0, 40)}`, (t) => {
    const text = flat(file)
    t.notRegex(text, wrong)
    t.regex(text, right)
  })
}
