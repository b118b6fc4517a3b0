// A publisher looks at the facts that it depends on for as long as it publishes, and says when one changes.

import { linkSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { VmClock, VmClockPublisher } from 'vmclock'
import { commandLine, inOwnMounts, type Running, run, start } from './node-command'
import { newDirectory, newPath, open, refuses } from './pages'

const LIST = '/sys/devices/system/clocksource/clocksource0/available_clocksource'

async function publishing(
  t: ExecutionContext,
  words: readonly string[],
  by: readonly string[] = [],
): Promise<Running> {
  const running = start([commandLine, 'publish', ...words, '--json'], { by })
  t.teardown(() => running.child.kill('SIGKILL'))
  t.regex(await running.line(), /"published"/)
  return running
}

test('a publisher stops when the kernel takes the counter off its list', async (t) => {
  if (process.arch !== 'x64') {
    t.log('skipped: only x86-64 has such a list')
    t.pass()
    return
  }
  const list = newPath(t)
  writeFileSync(list, 'tsc hpet acpi_pm \n')
  const by = inOwnMounts(t, `mount --bind '${list}' ${LIST}`)
  if (by === undefined) return
  const path = newPath(t)
  const tried = await run([commandLine, 'publish', path, '--shape', 'time', '--json'], {
    by: [...by, 'timeout', '1'],
  })
  if (tried.stderr.includes('ERR_VMCLOCK_UNTRUSTED_COUNTER')) {
    t.log("skipped: this machine's CPU does not vouch for its counter")
    t.pass()
    return
  }
  const running = await publishing(t, [path, '--max-error', '5ms'], by)
  const answered = await publishing(t, [newPath(t), '--allow-untrusted-counter'], by)
  const clock = open(t, path)
  t.is(clock.read().status, 'synchronized')
  writeFileSync(list, 'hpet acpi_pm \n')
  // It looks at the list once an interval, before the update. So it makes few updates more, for other reasons.
  const last = clock.snapshot().raw.seqCount + 20
  while (running.child.exitCode === null && clock.snapshot().raw.seqCount < last) {
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  t.not(running.child.exitCode, null, 'it publishes on')
  const { exitCode, stderr } = await running.outcome
  t.is(exitCode, 1)
  t.regex(stderr, /does not list `tsc`/)
  refuses(t, () => clock.read(), 'ERR_VMCLOCK_UNSYNCHRONIZED', /./)
  // Somebody answers for the counter of the other one.
  answered.child.stdin.write('status\n')
  t.regex(await answered.line(), /"status"/)
})

for (const [name, change, why] of [
  ['removed', (path: string) => rmSync(path), /page's file was removed from its path/],
  [
    'replaced',
    (path: string) => {
      writeFileSync(`${path}.other`, 'other')
      renameSync(`${path}.other`, path)
    },
    /another file is at its path/,
  ],
] as const) {
  test(`publish: ends with an error when its page is ${name}`, async (t) => {
    const path = newPath(t)
    const running = await publishing(t, [path, '--allow-untrusted-counter', '--interval', '100ms'])
    const clock = open(t, path)
    change(path)
    const { exitCode, stderr } = await running.outcome
    t.is(exitCode, 1)
    t.regex(stderr, why)
    t.is(clock.snapshot().clockStatus, 'unreliable')
  })
}

test('a page has one publisher, also by a hard link and without the lock file', (t) => {
  const path = newPath(t)
  const publisher = VmClockPublisher.create(path, { allowUntrustedCounter: true })
  t.teardown(() => publisher.close())
  const link = join(newDirectory(t), 'link')
  linkSync(path, link)
  rmSync(`${path}.lock`)
  for (const name of [path, link]) {
    const create = (): unknown => VmClockPublisher.create(name, { allowUntrustedCounter: true })
    refuses(t, create, 'ERR_VMCLOCK_BUSY', /./)
  }
  const clock = VmClock.open(link)
  t.not(clock.snapshot().clockStatus, 'unreliable')
  clock.close()
})

test('a page has one publisher, also where its file is mounted at another path', async (t) => {
  const path = newPath(t)
  const publisher = VmClockPublisher.create(path, { allowUntrustedCounter: true })
  t.teardown(() => publisher.close())
  const elsewhere = newPath(t)
  writeFileSync(elsewhere, '')
  const by = inOwnMounts(t, `mount --bind '${path}' '${elsewhere}'`)
  if (by === undefined) return
  const words = ['publish', elsewhere, '--allow-untrusted-counter', '--json']
  const { exitCode, stderr } = await run([commandLine, ...words], { by })
  t.is(exitCode, 1)
  t.regex(stderr, /ERR_VMCLOCK_BUSY/)
})
