// Tests the parts of the command line that services use: probes, reactions, notices to the service manager, trusted users.

import { spawnSync } from 'node:child_process'
import { chmodSync, chownSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { formatNs, VmClock, VmClockPublisher } from 'vmclock'
import { fieldsOf, PAGE_FLAGS, VmClockPage } from 'vmclock/testing'
import { PublisherAccess } from '../ts/cli/publisher-access'
import { commandLine, isEmulated, run, start } from './node-command'
import { FLAG, liveFields, newDirectory, newPath, open, page, refuses } from './pages'

const vmclock = (...words: string[]) => run([commandLine, ...words])

function codeOf(stderr: string): string {
  return (JSON.parse(stderr) as { error: { code: string } }).error.code
}

test('check: ends with 0 only if the time has a bound within the limits', async (t) => {
  const { path } = page(t, liveFields(t))
  t.is((await vmclock('check', path)).exitCode, 0)
  const good = await vmclock('check', path, '--error-limit', '1ms', '--max-age', '1h', '--json')
  t.is(good.exitCode, 0, good.stderr)
  t.is((JSON.parse(good.stdout) as { ok: boolean }).ok, true)
  for (const [words, code] of [
    [[path, '--error-limit', '1us'], 'ERR_VMCLOCK_TOO_UNCERTAIN'],
    [[page(t, { ...liveFields(t), flags: 0n }).path], 'ERR_VMCLOCK_TOO_UNCERTAIN'],
    [[page(t, {}).path], 'ERR_VMCLOCK_NO_TIME'],
    [[newPath(t)], 'ERR_VMCLOCK_NOT_FOUND'],
  ] as const) {
    const refused = await vmclock('check', ...words, '--json')
    t.is(refused.exitCode, 1)
    t.is(refused.stdout, '')
    t.is(codeOf(refused.stderr), code)
  }
  const unstated = await vmclock('check', page(t, { ...liveFields(t), flags: 0n }).path)
  t.regex(unstated.stderr, /the bound is unknown: the page states no maximum error of its time/)
  t.is((await vmclock('check', path, '--error-limit', 'much')).exitCode, 2)
})

test('watch: gives every line a time, every event a reading, and leaves stamps out', async (t) => {
  const made = page(t, liveFields(t))
  const words = ['watch', made.path, '--json', '--no-stamps', '--interval', '1ms']
  const watching = start([commandLine, ...words])
  t.teardown(() => watching.child.kill('SIGKILL'))
  const lines = [JSON.parse(await watching.line()) as Record<string, unknown>]
  made.write({ disruptionMarker: 5n })
  lines.push(JSON.parse(await watching.line()) as Record<string, unknown>)
  t.deepEqual(
    lines.map(({ event }) => event),
    ['begin', 'disruption'],
  )
  for (const { seenMs } of lines) t.true(Math.abs(Number(seenMs) - Date.now()) < 60_000)
  t.like(lines[1], { reading: { disruptionMarker: '5' } })
  watching.child.kill('SIGTERM')
  t.is((await watching.outcome).exitCode, 0)
})

test('watch: runs a command after a restore and another after a disruption', async (t) => {
  const flags = FLAG.VM_GEN_COUNTER_PRESENT
  const made = page(t, { flags, vmGenerationCounter: 1n, disruptionMarker: 1n })
  const log = newPath(t)
  const words = [
    '--on-restore',
    `echo "$VMCLOCK_EVENT $VMCLOCK_PREVIOUS $VMCLOCK_CURRENT" >> ${log}`,
  ]
  const watching = start([
    ...[commandLine, 'watch', made.path, '--json', '--no-stamps', '--interval', '1ms'],
    ...[...words, '--on-disruption', `echo told; echo "$VMCLOCK_EVENT" >> ${log}; exit 3`],
  ])
  t.teardown(() => watching.child.kill('SIGKILL'))
  await watching.line()
  made.write({ disruptionMarker: 2n })
  t.is(await watching.errorLine(), 'told')
  t.regex(await watching.errorLine(), /the command "echo told.*ended with exit code 3/)
  made.write({ vmGenerationCounter: 9n })
  await watching.lineThat((text) => text.includes('"generation"'))
  watching.child.kill('SIGTERM')
  // It ends when the command has ended.
  const { exitCode, stdout } = await watching.outcome
  t.is(exitCode, 0)
  t.false(stdout.includes('told'))
  t.is(readFileSync(log, 'utf8'), 'disruption\ngeneration 1 9\n')
})

test('publish: tells the service manager when the page is there, and when it stops', async (t) => {
  const listener = spawnSync('python3', ['--version'])
  if (listener.error !== undefined || isEmulated) {
    t.log('skipped: Node has no datagram sockets of this kind, and there is no python3')
    t.pass()
    return
  }
  const directory = newDirectory(t)
  const socket = join(directory, 'notify')
  const program = `import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print('bound', flush=True)
for _ in range(2): print(s.recv(100).decode(), flush=True)`
  const receiver = start([], { by: ['python3', '-c', program, socket] })
  t.teardown(() => receiver.child.kill('SIGKILL'))
  t.is(await receiver.line(), 'bound')
  const path = newPath(t)
  const publishing = start([commandLine, 'publish', path, '--allow-untrusted-counter'], {
    env: { NOTIFY_SOCKET: socket },
  })
  t.teardown(() => publishing.child.kill('SIGKILL'))
  t.is(await receiver.line(), 'READY=1')
  t.true(open(t, path).path === path)
  publishing.child.kill('SIGTERM')
  t.is(await receiver.line(), 'STOPPING=1')
  t.is((await publishing.outcome).exitCode, 0)
})

test('publish: warns of a directory in which every user can replace the page', async (t) => {
  for (const [mode, isOpen] of [
    [0o777, true],
    [0o1777, false],
    [0o775, false],
    [0o700, false],
  ] as const) {
    const directory = newDirectory(t)
    chmodSync(directory, mode)
    const path = join(directory, 'page')
    const publishing = start([commandLine, 'publish', path, '--allow-untrusted-counter'])
    t.teardown(() => publishing.child.kill('SIGKILL'))
    await publishing.line()
    publishing.child.kill('SIGTERM')
    const { exitCode, stderr } = await publishing.outcome
    t.is(exitCode, 0)
    if (isOpen) t.regex(stderr, /^warning: every user can write .*chmod o-w\)\n$/)
    else t.is(stderr, '')
  }
})

test('publish: warns once when others get the right to write its page', async (t) => {
  const changes: Array<[RegExp, (path: string) => void]> = [
    [/other users can write false times.*chmod go-w/, (path) => chmodSync(path, 0o666)],
    [/other users can write false times.*chmod go-w/, (path) => chmodSync(path, 0o664)],
  ]
  if (process.getuid?.() === 0) {
    changes.push([
      /belongs to user 12345 now.*user 0 its owner/,
      (path) => chownSync(path, 12_345, 0),
    ])
  } else t.log('not shown: only root can give a file away')
  for (const [warning, change] of changes) {
    const path = newPath(t)
    const publishing = start([commandLine, 'publish', path, '--allow-untrusted-counter'])
    t.teardown(() => publishing.child.kill('SIGKILL'))
    await publishing.line()
    const access = new PublisherAccess(path)
    const clock = open(t, path)
    let warned: string | undefined
    publishing.errorLine().then(
      (text) => {
        warned = text
      },
      () => {},
    )
    t.is(access.observe(), undefined)
    change(path)
    t.regex(access.observe() ?? '', warning)
    t.is(access.observe(), undefined)
    // The command looks twice a second, and updates the page four times.
    const last = clock.snapshot().raw.seqCount + 80
    while (warned === undefined && clock.snapshot().raw.seqCount < last) {
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    t.regex(warned ?? 'no warning', warning)
    publishing.child.kill('SIGTERM')
    const { exitCode, stderr } = await publishing.outcome
    t.is(exitCode, 0)
    t.regex(stderr, /^warning: [^\n]*\n$/)
  }
})

test('a notice that cannot be sent is reported, and publishing goes on', async (t) => {
  const path = newPath(t)
  const publishing = start([commandLine, 'publish', path, '--allow-untrusted-counter'], {
    env: { NOTIFY_SOCKET: newPath(t) },
  })
  t.teardown(() => publishing.child.kill('SIGKILL'))
  t.regex(await publishing.errorLine(), /sendto/)
  t.true(open(t, path).path === path)
  publishing.child.kill('SIGTERM')
  t.is((await publishing.outcome).exitCode, 0)
})

/** Makes a page of another user, if this process can. */
function foreignPage(t: ExecutionContext): string | undefined {
  const { path } = page(t, liveFields(t))
  try {
    chownSync(path, 12_345, 12_345)
    chmodSync(dirname(path), 0o755)
    return path
  } catch {
    t.log('skipped: only root can give a file away')
    t.pass()
    return undefined
  }
}

test('--trusted-uid and $VMCLOCK_TRUSTED_UIDS let another user own the page', async (t) => {
  const path = foreignPage(t)
  if (path === undefined) return
  for (const command of ['now', 'status', 'check']) {
    const refused = await vmclock(command, path, '--json')
    t.is(refused.exitCode, 1)
    t.is(codeOf(refused.stderr), 'ERR_VMCLOCK_UNTRUSTED')
    t.is((await vmclock(command, path, '--trusted-uid', '1', '--trusted-uid', '12345')).exitCode, 0)
    const env = { VMCLOCK_TRUSTED_UIDS: '1, 12345' }
    t.is((await run([commandLine, command, path], { env })).exitCode, 0)
  }
  const wrong = await run([commandLine, 'now', path], { env: { VMCLOCK_TRUSTED_UIDS: 'root' } })
  t.is(wrong.exitCode, 2)
  t.regex(wrong.stderr, /VMCLOCK_TRUSTED_UIDS/)
  t.is((await vmclock('now', path, '--trusted-uid', 'root')).exitCode, 2)
})

test('an unmapped owner is refused unless it is named, with a warning', async (t) => {
  const path = foreignPage(t)
  if (path === undefined) return
  // Neither the caller nor the owner is mapped: the kernel shows both as the overflow user.
  const by = ['setpriv', '--reuid', '54321', '--clear-groups', 'unshare', '--user']
  if (
    isEmulated ||
    spawnSync(by[0] ?? '', [...by.slice(1), process.execPath, '--version']).status !== 0
  ) {
    t.log('skipped: no user namespace of its own, or this Node is not for every user')
    t.pass()
    return
  }
  const refused = await run([commandLine, 'now', path, '--json'], { by })
  t.is(refused.exitCode, 1, refused.stdout)
  t.is(codeOf(refused.stderr), 'ERR_VMCLOCK_UNTRUSTED')
  const named = await run([commandLine, 'now', path, '--trusted-uid', '65534'], { by })
  t.is(named.exitCode, 0, named.stderr)
  t.regex(named.stderr, /^warning: user 65534 stands for every user/)
})

// Formats and fields

test('a reading and formatNs give ISO 8601 with nanoseconds', (t) => {
  const fields = { ...liveFields(t), flags: FLAG.TAI_OFFSET_VALID, taiOffsetSec: 37 }
  const { path } = page(t, fields)
  const reading = open(t, path).read()
  const text = reading.toISOString()
  t.regex(text, /^2026-01-01T00:0\d:\d\d\.\d{9}Z$/)
  t.is(formatNs(reading.epochNs), text)
  t.is(formatNs(-1n), '1969-12-31T23:59:59.999999999Z')
  t.is(formatNs(0n), '1970-01-01T00:00:00.000000000Z')
  t.is(formatNs(2n ** 63n - 1n), '2262-04-11T23:47:16.854775807Z')
  t.is(formatNs(-(2n ** 63n)), '1677-09-21T00:12:43.145224192Z')
  for (const wrong of [2n ** 63n, 5, '5', undefined]) {
    refuses(t, () => formatNs(wrong as bigint), 'ERR_VMCLOCK_INVALID_ARGUMENT', /bigint/)
  }
  const tai = open(t, path, { timescale: 'tai' }).read()
  refuses(t, () => tai.toISOString(), 'ERR_VMCLOCK_TIMESCALE', /tai/)
})

test('the fields of a page come from a snapshot in one call, and its flags have names', (t) => {
  const flags = PAGE_FLAGS.TIME_MAXERROR_VALID | PAGE_FLAGS.PERIOD_MAXERROR_VALID
  t.is(flags, FLAG.TIME_MAXERROR_VALID | FLAG.PERIOD_MAXERROR_VALID)
  const first = open(t, page(t, { ...liveFields(t), disruptionMarker: 7n, flags }).path)
  const copy = newPath(t)
  VmClockPage.create(copy, fieldsOf(first.snapshot())).close()
  const { seqCount: _one, ...expected } = first.snapshot().raw
  const { seqCount: _other, ...found } = VmClock.open(copy).snapshot().raw
  t.deepEqual(found, expected)
})

test('publish --offset moves the time of a page, and its bound by as much', async (t) => {
  const paths = [newPath(t), newPath(t)] as const
  const offsets = [[], ['--offset', '-20ms']]
  for (const [index, path] of paths.entries()) {
    const words = ['publish', path, '--allow-untrusted-counter', '--max-error', '1ms']
    const publishing = start([commandLine, ...words, ...(offsets[index] ?? [])])
    t.teardown(() => publishing.child.kill('SIGKILL'))
    await publishing.line()
  }
  const [plain, moved] = [open(t, paths[0]), open(t, paths[1])]
  const [before, shown, after] = [plain.read(), moved.read(), plain.read()]
  const boundNs = (shown.maxErrorNs ?? 0n) - 20_000_000n
  t.true(boundNs >= 1_000_000n)
  // Without the offset both are within their bounds of one true time.
  const slackNs = boundNs + (after.maxErrorNs ?? 0n)
  const withoutNs = shown.epochNs + 20_000_000n
  t.true(withoutNs >= before.epochNs - slackNs && withoutNs <= after.epochNs + slackNs)
  for (const wrong of ['2h', '-61min', 'much', '--json']) {
    const refused = await vmclock('publish', newPath(t), '--offset', wrong)
    t.is(refused.exitCode, 2, wrong)
    t.regex(refused.stderr, /--offset/)
  }
  for (const wrong of [5, 3_600_000_000_001n, -3_600_000_000_001n, 2n ** 63n]) {
    refuses(
      t,
      () => VmClockPublisher.create(newPath(t), { offsetNs: wrong as bigint }),
      'ERR_VMCLOCK_INVALID_ARGUMENT',
      /options\.offsetNs/,
    )
  }
})

// Messages

test('a refused clock names its cause and what to do', async (t) => {
  const stopped = page(t, { ...liveFields(t), clockStatus: 4 })
  refuses(
    t,
    () => open(t, stopped.path).nowNs(),
    'ERR_VMCLOCK_UNSYNCHRONIZED',
    /publisher was stopped.*vmclock publish/,
  )
  const free = page(t, { ...liveFields(t), clockStatus: 3 })
  const strict = open(t, free.path, { requireSynchronized: true })
  refuses(
    t,
    () => strict.nowNs(),
    'ERR_VMCLOCK_UNSYNCHRONIZED',
    /option requireSynchronized.*leave that option out/,
  )
  const typo = await vmclock('nowww')
  t.regex(typo.stderr, /unknown command 'nowww' \(Did you mean now\?\)/)
  const missing = join(newDirectory(t), 'no', 'page')
  const nowhere = await vmclock('publish', missing, '--allow-untrusted-counter')
  t.true(nowhere.stderr.includes(missing))
  t.false(nowhere.stderr.includes('.lock'))
})
