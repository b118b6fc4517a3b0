// What README, guide and examples show works as it stands there: every block of TypeScript is checked
// and run beside a published page, every command is carried out, JSON is parsed, and what configures
// other programs is held against the publisher's defaults.

import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import ts from 'typescript'
import { VmClockPublisher } from 'vmclock'
import { parseDocument } from 'yaml'
import {
  commandLine,
  inOwnMounts,
  nodeCommand,
  type Outcome,
  rootDirectory,
  run,
} from './node-command'
import { newDirectory } from './pages'

interface Block {
  readonly file: string
  /** Where it stands, as an editor would be told. */
  readonly place: string
  /** The comment right before it. */
  readonly comment: string | undefined
  readonly language: string
  readonly text: string
}

const documents = [
  'README.md',
  ...readdirSync(join(rootDirectory, 'docs')).map((file) => `docs/${file}`),
]
  .filter((file) => file.endsWith('.md'))
  .sort()

const blocks: readonly Block[] = documents.flatMap((file) => blocksOf(file))

function blocksOf(file: string): Block[] {
  const text = readFileSync(join(rootDirectory, file), 'utf8')
  const found = text.matchAll(/(?:^<!-- ([^\n]*) -->\n\n)?^```(\S*)\n(.*?)^```$/gms)
  return [...found].map(({ 1: comment, 2: language, 3: body, index }) => ({
    file,
    comment,
    place: `${file}:${text.slice(0, index).split('\n').length}`,
    language: language ?? '',
    text: body ?? '',
  }))
}

function inLanguage(language: string): readonly Block[] {
  return blocks.filter((block) => block.language === language)
}

/** A page with time that others publish, as the documents take for granted. */
function published(t: ExecutionContext): string {
  const publisher = VmClockPublisher.create(join(newDirectory(t), 'page'), {
    allowUntrustedCounter: true,
    maxErrorNs: 1_000_000n,
    taiMinusUtcSec: 37,
  })
  t.teardown(() => publisher.close())
  return publisher.path
}

const examples = readdirSync(join(rootDirectory, 'examples'))
  .filter((file) => file.endsWith('.ts'))
  .map((file) => ({
    place: `examples/${file}`,
    text: readFileSync(join(rootDirectory, 'examples', file), 'utf8'),
  }))

test('every block is in a language that is looked after here', (t) => {
  const known = ['ts', 'sh', 'console', 'json', 'text', 'ini', 'yaml', 'toml', 'rust,no_run']
  t.deepEqual(
    blocks.filter(({ language }) => !known.includes(language)),
    [],
  )
})

test('TypeScript in documents and examples passes the strict compiler', (t) => {
  const sources = new Map(
    [...inLanguage('ts'), ...examples].map(({ place, text }) => [
      `${rootDirectory}${place.replaceAll(/[/:]/g, '-')}.ts`,
      text,
    ]),
  )
  const { config } = ts.readConfigFile(join(rootDirectory, 'tsconfig.json'), ts.sys.readFile)
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, rootDirectory)
  // What a document declares for its reader need not be used in it, nor annotated for exports.
  const lenient = { noUnusedLocals: false, isolatedDeclarations: false, declaration: false }
  const host = ts.createCompilerHost(options)
  const { fileExists, readFile } = host
  host.fileExists = (file) => sources.has(file) || fileExists(file)
  host.readFile = (file) => sources.get(file) ?? readFile(file)
  const program = ts.createProgram([...sources.keys()], { ...options, ...lenient }, host)
  t.true(sources.size > 0)
  t.deepEqual(
    ts
      .getPreEmitDiagnostics(program)
      .map(
        ({ file, messageText }) =>
          `${file?.fileName}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`,
      ),
    [],
  )
})

for (const { place, text } of [...inLanguage('ts'), ...examples]) {
  test(`${place} runs`, async (t) => {
    const compilerOptions = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 }
    const { outputText } = ts.transpileModule(text, { compilerOptions })
    const { exitCode, signal, stderr } = await run(['--input-type=module', '-e', outputText], {
      env: { VMCLOCK_PATH: published(t) },
    })
    t.is(stderr, '')
    t.is(exitCode, 0, signal ?? '')
  })
}

for (const { place, text } of inLanguage('sh')) {
  test(`${place}: every command works`, async (t) => {
    const programs = newDirectory(t)
    const node = nodeCommand().map(quoted).join(' ')
    // `npx vmclock` of this tree; of npm only that a script of that name is there.
    program(
      programs,
      'npx',
      // What is asked may be answered with "wrong here", but has to be understood.
      `[ "$1" = vmclock ] && shift && ${node} ${quoted(commandLine)} "$@" || [ $? = 1 ]`,
    )
    const scripts = Object.keys(packageJson().scripts)
    program(
      programs,
      'npm',
      `case "$*" in ${[
        'install vmclock',
        'test',
        'test --*',
        ...scripts.map((name) => `run ${name}*`),
      ]
        .map((words) => words.replaceAll(' ', '\\ '))
        .join('|')}) ;; *) echo "no script for npm $*" >&2; exit 1 ;; esac`,
    )
    const { exitCode, stderr } = await shell(t, programs, text)
    t.is(exitCode, 0, stderr)
  })
}

for (const { place, text } of inLanguage('console')) {
  // They want root, a container engine or another machine.
  test(`${place}: at least a shell understands it`, async (t) => {
    const page = await defaultPage()
    for (const [, volume = ''] of text.matchAll(/ -v (\S+)/g)) {
      t.true(isSharedFolder(volume, page, 'ro'), volume)
    }
    const { exitCode, stderr } = await shell(t, newDirectory(t), `sh -n <<'EOF'\n${text}EOF\n`)
    t.is(exitCode, 0, stderr)
  })
}

for (const { place, text } of inLanguage('json')) {
  test(`${place} is JSON, a value a line or one of many lines`, (t) => {
    t.notThrows(() => {
      if (
        text
          .trimEnd()
          .split('\n')
          .every((line) => line.startsWith('{') && line.endsWith('}'))
      ) {
        for (const line of text.trimEnd().split('\n')) JSON.parse(line)
      } else JSON.parse(text)
    })
  })
}

test('each transcript is made again by a test, and the other text is no output', (t) => {
  const guests = "Needs the driver's device: made by rig/tests/first-stamp.mjs."
  t.deepEqual(
    inLanguage('text').map(({ file, comment }) => [file, comment]),
    [
      ['docs/bounds.md', 'A formula.'],
      ['docs/bounds.md', 'A formula.'],
      ['docs/design.md', 'A picture.'],
      ['docs/getting-started.md', undefined],
      ['docs/getting-started.md', guests],
      ['docs/getting-started.md', guests],
    ],
  )
})

test('the first program prints what the guide shows, with other figures', async (t) => {
  const here = blocks.filter(({ file }) => file === 'docs/getting-started.md')
  const program = here.find(({ language }) => language === 'ts')?.text ?? ''
  const shown = here.find(({ language }) => language === 'text')?.text ?? ''
  const by = inOwnMounts(
    t,
    'mount -t tmpfs none /run && mount -t tmpfs none /sys/class/misc && test ! -e /dev/vmclock0',
  )
  if (by === undefined) return
  const { exitCode, stdout, stderr } = await run(['--input-type=module', '-e', program], { by })
  if (stderr.includes('ERR_VMCLOCK_UNTRUSTED_COUNTER')) {
    t.log("not shown: this machine's CPU does not vouch for its counter")
    t.pass()
    return
  }
  t.is(exitCode, 0, stderr)
  if (!stdout.includes('unsynchronized')) {
    t.log('the rest is not shown: a time daemon synchronizes this machine')
    return
  }
  t.is(withoutFigures(stdout), withoutFigures(shown))
})

function withoutFigures(text: string): string {
  return text.replaceAll(/\d{8,}/g, '0')
}

/** The page that a publisher keeps if it is told nothing. */
async function defaultPage(): Promise<string> {
  const { stdout } = await run([commandLine, 'publish', '--help'])
  return /\(default: (\/[^)\s]+)\)/.exec(stdout)?.[1] ?? ''
}

/** A `-v` of a container engine or a volume of compose: from where, to where, how. */
function isSharedFolder(volume: string, page: string, mode: string): boolean {
  return volume === [dirname(page), dirname(page), ...(mode === '' ? [] : [mode])].join(':')
}

for (const { place, text } of inLanguage('yaml')) {
  test(`${place} is YAML that shares the folder of the default page`, async (t) => {
    const document = parseDocument(text, { strict: true, uniqueKeys: true })
    t.deepEqual([...document.errors, ...document.warnings], [])
    const page = await defaultPage()
    const given = document.toJS() as Pod | Compose
    if ('services' in given) {
      for (const { command, volumes } of Object.values(given.services)) {
        const mode = command?.includes('publish') ? '' : 'ro'
        t.true(volumes.some((volume) => isSharedFolder(volume, page, mode)))
      }
      return
    }
    t.is(`${given.apiVersion} ${given.kind}`, 'v1 Pod')
    const { containers, volumes } = given.spec
    for (const { volumeMounts } of containers) {
      for (const { name, mountPath, readOnly } of volumeMounts) {
        t.is(mountPath, dirname(page))
        t.true(readOnly)
        const hostPath = { path: dirname(page), type: 'Directory' }
        t.deepEqual(
          volumes.filter((volume) => volume.name === name),
          [{ name, hostPath }],
        )
      }
    }
    t.true(containers.length > 0 && volumes.length > 0)
  })
}

interface Compose {
  readonly services: Readonly<
    Record<string, { readonly command?: readonly string[]; readonly volumes: readonly string[] }>
  >
}

interface Pod {
  readonly apiVersion: string
  readonly kind: string
  readonly spec: {
    readonly containers: ReadonlyArray<{
      readonly volumeMounts: ReadonlyArray<{
        readonly name: string
        readonly mountPath: string
        readonly readOnly: boolean
      }>
    }>
    readonly volumes: ReadonlyArray<{ readonly name: string; readonly hostPath: unknown }>
  }
}

for (const { place, text } of inLanguage('ini')) {
  test(`${place} is a unit that systemd takes, and whose commands the command line has`, async (t) => {
    const page = await defaultPage()
    const settings = new Map(
      [...text.matchAll(/^(\w+)=(.*)$/gm)].map(([, name = '', value = '']) => [name, value]),
    )
    if (settings.has('RuntimeDirectory')) {
      t.regex(settings.get('ExecStart') ?? '', new RegExp(`/vmclock publish (?:--\\S+ )*${page}$`))
      t.is(join('/run', settings.get('RuntimeDirectory') ?? ''), dirname(page))
      // Readers of every user have to enter it.
      t.is(settings.get('RuntimeDirectoryMode'), '0755')
    }
    for (const [, words = ''] of text.matchAll(/^Exec\w+=\S+\/vmclock (.*)$/gm)) {
      const [command = '', ...rest] = words.split(' ')
      const { stdout } = await run([commandLine, command, '--help'])
      for (const flag of rest.filter((word) => word.startsWith('--'))) {
        t.regex(stdout, new RegExp(`^ +${flag}\\b`, 'm'), words)
      }
    }
    if (spawnSync('systemd-analyze', ['--version']).error !== undefined) {
      t.log('not shown that systemd takes it: there is no systemd-analyze')
      return
    }
    const units = newDirectory(t)
    const [, name = ''] = /^# \/etc\/systemd\/system\/(\S+)$/m.exec(text) ?? []
    const unit = join(units, name)
    // It looks whether the program is there.
    writeFileSync(unit, text.replaceAll(/^(Exec\w+)=\S+/gm, '$1=/bin/true'))
    const { status, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', unit], {
      encoding: 'utf8',
      env: { ...process.env, SYSTEMD_LOG_LEVEL: 'warning', SYSTEMD_LOG_COLOR: '0' },
    })
    t.is(status, 0, stderr)
    t.deepEqual(
      stderr.split('\n').filter((line) => line.includes(name)),
      [],
    )
  })
}

for (const { place, text } of inLanguage('toml')) {
  test(`${place} is of a Cargo.toml, and names the crate`, (t) => {
    const project = newDirectory(t)
    mkdirSync(join(project, 'src'))
    writeFileSync(join(project, 'src/lib.rs'), '')
    writeFileSync(
      join(project, 'Cargo.toml'),
      `[package]\nname = "reader"\nversion = "0.0.0"\nedition = "2021"\n\n${text}`,
    )
    const told = cargoMetadata(join(project, 'Cargo.toml'))
    if (told === undefined) {
      t.log('not shown: there is no cargo')
      return
    }
    const [dependency] = told.packages[0]?.dependencies ?? []
    const manifest = join(
      rootDirectory,
      (dependency?.path ?? '').replace(project, ''),
      'Cargo.toml',
    )
    t.is(dependency?.name, 'vmclock')
    t.true(cargoMetadata(manifest)?.packages.some(({ name }) => name === 'vmclock'))
  })
}

interface CargoMetadata {
  readonly packages: ReadonlyArray<{
    readonly name: string
    readonly dependencies: ReadonlyArray<{ readonly name: string; readonly path?: string }>
  }>
}

function cargoMetadata(manifest: string): CargoMetadata | undefined {
  const words = ['metadata', '--no-deps', '--offline', '--format-version', '1']
  const { error, stderr, stdout } = spawnSync('cargo', [...words, '--manifest-path', manifest], {
    encoding: 'utf8',
  })
  if (error !== undefined) return undefined
  if (stdout === '') throw new Error(stderr)
  return JSON.parse(stdout) as CargoMetadata
}

test('each unit and each block of YAML in the guide is a file of deploy/', (t) => {
  const directory = join(rootDirectory, 'deploy')
  const files = readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((file) => /[.](?:yaml|service)$/.test(file))
    .map((file) => readFileSync(join(directory, file), 'utf8'))
  const shown = [...inLanguage('ini'), ...inLanguage('yaml')]
  t.true(shown.length > 0)
  t.deepEqual(
    shown.filter(({ text }) => !files.includes(text)),
    [],
  )
})

test('the picture of docs/deploy.md is the one of its script', async (t) => {
  const made = join(newDirectory(t), 'deploy.svg')
  const { exitCode, stderr } = await run([join(rootDirectory, 'tools/deploy-picture.mjs'), made])
  t.is(exitCode, 0, stderr)
  const shown = readFileSync(join(rootDirectory, 'docs/deploy.svg'), 'utf8')
  t.is(readFileSync(made, 'utf8'), shown)
})

test('each unit of deploy/ is in the guide', (t) => {
  const directory = join(rootDirectory, 'deploy/systemd')
  const shown = inLanguage('ini').map(({ text }) => text)
  const units = readdirSync(directory)
  t.true(units.length > 0)
  for (const unit of units) {
    t.true(shown.includes(readFileSync(join(directory, unit), 'utf8')), unit)
  }
})

test('no document refers to a file or a heading that is not there', (t) => {
  const missing = documents.flatMap((file) =>
    [
      ...withoutBlocks(readFileSync(join(rootDirectory, file), 'utf8')).matchAll(
        /(?:\]\(|src=")(?!https?:)([^)#"]*)(?:#([^)"]+))?[)"]/g,
      ),
    ]
      .map(([, target = '', heading]) => {
        const path = target === '' ? file : join(dirname(file), target)
        return { path: resolve(rootDirectory, path), heading }
      })
      .filter(
        ({ path, heading }) =>
          !(ts.sys.fileExists(path) || ts.sys.directoryExists(path)) ||
          (heading !== undefined && !headings(path).includes(heading)),
      )
      .map(({ path, heading = '' }) => `${file}: ${path}#${heading}`),
  )
  t.deepEqual(missing, [])
})

test('the guide in the README, the site and the folder are the same pages', (t) => {
  const inFolder = documents.filter((file) => file.startsWith('docs/'))
  const { projectDocuments } = JSON.parse(
    readFileSync(join(rootDirectory, 'typedoc.json'), 'utf8'),
  ) as { projectDocuments: string[] }
  t.deepEqual([...projectDocuments].sort(), inFolder)
  const readme = readFileSync(join(rootDirectory, 'README.md'), 'utf8')
  const [, guide = ''] = /^## The guide\n(.*?)^## /ms.exec(readme) ?? []
  const linked = [...guide.matchAll(/\[([^\]]+)\]\(([^)]+)\)/g)]
  t.deepEqual(
    linked.map(([, , path]) => path),
    projectDocuments,
  )
  for (const [, title, path = ''] of linked) {
    const [first] = readFileSync(join(rootDirectory, path), 'utf8').split('\n')
    t.is(title?.replaceAll(/\s+/g, ' '), first?.replace('# ', ''))
  }
})

test('CONTRIBUTING names the directories of the tree', (t) => {
  const contributing = readFileSync(join(rootDirectory, 'CONTRIBUTING.md'), 'utf8')
  const [, table = ''] = /^## The directories\n(.*?)^## /ms.exec(contributing) ?? []
  const named = [...table.matchAll(/^\| `([^`/]+)\/[^`]*` \|/gm)].map(([, name = '']) => name)
  const { stdout, status } = spawnSync('git', ['ls-files'], {
    cwd: rootDirectory,
    encoding: 'utf8',
  })
  if (status !== 0) {
    t.log('not shown: this is not a clone')
    return
  }
  const directories = stdout
    .split('\n')
    .filter((path) => path.includes('/') && !path.startsWith('.'))
    .map((path) => path.replace(/\/.*/, ''))
  t.deepEqual([...new Set(named)].sort(), [...new Set(directories)].sort())
})

function withoutBlocks(text: string): string {
  return text.replaceAll(/^```.*?^```$/gms, '')
}

/** The anchors that GitHub and the site make of a document's headings. */
function headings(path: string): string[] {
  return [...withoutBlocks(readFileSync(path, 'utf8')).matchAll(/^#+ (.+)$/gm)].map(
    ([, heading = '']) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
        .replaceAll(' ', '-'),
  )
}

for (const [what, file] of [
  ['fault', 'docs/faults.md'],
  ['claim', 'SECURITY.md'],
] as const) {
  test(`every ${what} that is listed has a test of that title in that file`, (t) => {
    const rows = readFileSync(join(rootDirectory, file), 'utf8')
      .split('\n')
      .filter((line) => line.startsWith('|') && !/^\|(---|\s*(?:fault|claim) )/.test(line))
    t.true(rows.length > 0)
    const unproven = rows.filter((row) => {
      const [, at = '', title = ''] = /\| `([^`]+)`: (.+) \|$/.exec(row) ?? []
      return (
        !ts.sys.fileExists(join(rootDirectory, at)) || !testsOf(at).some((of) => of.test(title))
      )
    })
    t.deepEqual(unproven, [])
  })
}

/** What fits the titles of a file's tests; `${…}` in a title fits anything. */
function testsOf(file: string): RegExp[] {
  const text = readFileSync(join(rootDirectory, file), 'utf8')
  const begun = file.endsWith('.rs')
    ? /#\[test\]\s+(?:#\[.*\]\s+)*fn (\w+)\(/g
    : file.startsWith('rig/')
      ? /^ {2}(?:async )?'(.+?)'\(/gm
      : /^ *(?:test(?:\.serial)?|defineTest)\(\s*(?:'(.+?)'|"(.+?)"|`(.+?)`),/gm
  return [...text.matchAll(begun)].map(([, ...titles]) => {
    const parts = (titles.find((title) => title !== undefined) ?? '').split(
      /\$\{(?:[^{}]|\{[^}]*\})*\}/,
    )
    return new RegExp(
      `^${parts.map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('.+')}$`,
    )
  })
}

function packageJson(): { scripts: Record<string, string> } {
  return JSON.parse(readFileSync(join(rootDirectory, 'package.json'), 'utf8'))
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`
}

function program(programs: string, name: string, line: string): void {
  const path = join(programs, name)
  writeFileSync(path, `#!/bin/sh\n${line}\n`)
  chmodSync(path, 0o755)
}

/** Runs lines of shell in a folder of their own, with a published page; all that it starts ends with it. */
function shell(t: ExecutionContext, programs: string, text: string): Promise<Outcome> {
  const child = spawn('sh', ['-euc', text], {
    cwd: newDirectory(t),
    env: {
      ...process.env,
      NO_COLOR: '1',
      VMCLOCK_PATH: published(t),
      PATH: `${programs}:${process.env['PATH']}`,
    },
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const said = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (chunk: string) => {
      said[name] += chunk
    })
  }
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (exitCode, signal) => {
      // What was put in the background.
      try {
        process.kill(-(child.pid ?? 0), 'SIGTERM')
      } catch {}
      child.once('close', () => resolve({ exitCode, signal, ...said }))
    })
  })
}
