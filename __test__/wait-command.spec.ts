// `vmclock wait` ends when the time can be used, and its exit code says whether it can.

import test from 'ava'
import { VmClockPage } from 'vmclock/testing'
import { commandLine, run, start } from './node-command'
import { FLAG, frozenFields, newPath, page } from './pages'

const wait = (...args: string[]) => run([commandLine, 'wait', ...args])

test('wait ends at once if the bound is small enough', async (t) => {
  const { path } = page(t, frozenFields())
  const { exitCode, stdout, stderr } = await wait(path, '--error-limit', '2us', '--timeout', '1h')
  t.is(stderr, '')
  t.regex(stdout, /^ok {2}.*bound ± 1\.001 µs/)
  t.is(exitCode, 0)
  const json = JSON.parse((await wait(path, '--json')).stdout) as Record<string, unknown>
  t.is(json['ok'], true)
  t.like(json['reading'] as object, { maxErrorNs: '1001' })
})

test('wait waits for the page, for its time, and for its bound', async (t) => {
  const path = newPath(t)
  const { child, outcome } = start([commandLine, 'wait', path, '--error-limit', '1us'])
  let ended = false
  child.once('exit', () => {
    ended = true
  })
  // Made before the command can have looked, or after: it must not matter.
  const made = VmClockPage.create(path, { ...frozenFields(), clockStatus: 1 })
  t.teardown(() => made.close())
  made.write({ clockStatus: 2, flags: 0n })
  made.write({ flags: FLAG.PERIOD_MAXERROR_VALID | FLAG.TIME_MAXERROR_VALID })
  t.false(ended)
  made.write({ timeMaxerrorNanosec: 500n })
  t.is((await outcome).exitCode, 0)
})

for (const [what, fields, args, expected] of [
  [
    'a bound that is too great',
    frozenFields(),
    ['--error-limit', '1us'],
    /after 300\.0 ms the bound is ± 1\.001 µs, and ± 1\.000 µs was wanted/,
  ],
  [
    'a missing bound',
    { ...frozenFields(), flags: 0n },
    [],
    /after 300\.0 ms the bound is unknown: .*maximum error/,
  ],
  [
    'an unusable clock',
    { ...frozenFields(), clockStatus: 1 },
    [],
    /after 300\.0 ms: .*initializing/,
  ],
] as const) {
  test(`wait ends with exit code 4 when its time has passed, and names ${what}`, async (t) => {
    const { path } = page(t, fields)
    const { exitCode, stdout, stderr } = await wait(path, '--timeout', '300ms', ...args)
    t.is(stdout, '')
    t.regex(stderr, expected)
    t.regex(stderr, /^remedy/m)
    t.is(exitCode, 4)
  })
}

test('wait ends with exit code 4 if there is no page in time', async (t) => {
  const { exitCode, stderr } = await wait(newPath(t), '--timeout', '200ms', '--json')
  t.is((JSON.parse(stderr) as { error: { code: string } }).error.code, 'ERR_VMCLOCK_NOT_FOUND')
  t.is(exitCode, 4)
})

test('wait fails at once with an error that cannot pass', async (t) => {
  const { path } = page(t, { ...frozenFields(), version: 2 })
  const { exitCode, stderr } = await wait(path, '--timeout', '1h')
  t.regex(stderr, /version 2/)
  t.is(exitCode, 1)
})
