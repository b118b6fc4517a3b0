// The command line prints text or JSON and ends with the documented exit codes. It escapes everything
// that comes from a page or a path, and it leaves no files or processes behind.

import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { VmClock } from 'vmclock'
import { PublisherBound } from '../ts/cli/publisher-bound'
import { stateNoBound } from './extension'
import { commandLine, type Outcome, type Running, run, start } from './node-command'
import { contents, FLAG, held, liveFields, newDirectory, newPath, open, page } from './pages'

// Characters that must never reach a terminal: C0 except newline, DEL, C1, bidirectional marks.
// biome-ignore lint/suspicious/noControlCharactersInRegex: the test looks for control characters
const UNSAFE = /[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]/

// `script` gives a program a terminal. No argument here has a character that is special to a shell.
// Without exec some shells stay, receive Ctrl-C too and end with 130 for any result of the program.
const onATerminal = ['sh', '-c', 'script -qec "exec $*" /dev/null', 'sh']

const vmclock = (...words: string[]): Promise<Outcome> => run([commandLine, ...words])

function parse(text: string): Record<string, unknown> {
  return JSON.parse(text) as Record<string, unknown>
}

function errorOf({ stderr }: Outcome): Record<string, unknown> {
  return parse(stderr)['error'] as Record<string, unknown>
}

/** Starts a command, which is killed at the end of the test. */
function startCommand(t: ExecutionContext, words: readonly string[], env = {}): Running {
  const running = start([commandLine, ...words], { env })
  t.teardown(() => running.child.kill('SIGKILL'))
  return running
}

/** Starts a publisher and waits until its page is published. */
async function publish(
  t: ExecutionContext,
  ...words: string[]
): Promise<Running & { path: string }> {
  const path = newPath(t)
  const running = startCommand(t, [
    'publish',
    path,
    '--json',
    '--allow-untrusted-counter',
    ...words,
  ])
  t.is(parse(await running.line())['event'], 'published')
  return { ...running, path }
}

// Help and usage

test('help lists every command, its options and the exit codes', async (t) => {
  const all = await vmclock('--help')
  t.is(all.exitCode, 0)
  for (const name of ['status', 'now', 'watch', 'metrics', 'ptp', 'doctor', 'publish', 'demo']) {
    t.regex(all.stdout, new RegExp(`^  ${name} `, 'm'))
    const { exitCode, stdout, stderr } = await vmclock(name, '--help')
    t.is(exitCode, 0)
    t.is(stderr, '')
    t.regex(stdout, /--json/)
    t.regex(stdout, /Exit codes:\n {2}0 {2}success\n {2}1 .*\n {2}2 .*\n {2}3 /)
  }
})

test('--version prints the version of the package', async (t) => {
  const { version } = JSON.parse(
    readFileSync(new URL('../package.json', import.meta.url), 'utf8'),
  ) as { version: string }
  t.is((await vmclock('--version')).stdout, `${version}\n`)
})

for (const words of [
  [],
  ['frobnicate'],
  ['help', 'bogus'],
  ['now', '--timescale', 'gps'],
  ['now', '--assumed-drift', '-1'],
  ['now', '--assumed-drift', '0x10'],
  ['now', '--assumed-drift', ' 5'],
  ['now', '--trusted-uid', '0b1'],
  ['watch', '--on-disruption', ''],
  ['watch', '--on-restore', ' '],
  ['now', '--assumed-error', 'much'],
  ['status', '--assumed-drift', 'much'],
  ['watch', '--timescale', 'gps'],
  ['now', '--require-synchronized=no'],
  ['now', 'one', 'two'],
  ['status', '--abi', 'v1'],
  ['status', '--unknown'],
  ['watch', '--interval', '0ms'],
  ['publish', '--shape', 'cloud'],
  ['publish', '--interval', '250'],
  ['publish', '--interval', '0.5ms'],
  ['publish', '--interval', '600h'],
  ['publish', '--interval', '5s'],
  ['publish', '--interval', '99ms'],
  ['publish', '--mode', '666'],
  ['publish', '--mode', '044'],
  ['publish', '--shape', 'marker', '--generation', 'yes'],
  ['publish', '--shape', 'marker-and-generation', '--generation', 'no'],
  ['publish', '--wander', '1000001'],
  ['publish', ''],
  ['watch', '--interval', '2h'],
  ['metrics', '--interval', '500ms'],
  ['metrics', '--listen', '[::]:9464'],
  ['metrics', '--file', ''],
  ['now', ''],
  ['now', 'x'.repeat(4096)],
  ['ptp', ''],
  ['ptp', 'x'.repeat(300)],
  ['ptp', '--samples', '26'],
  ['publish', '--max-error', '5 parsecs'],
  ['publish', '--max-error', '-5ms'],
  ['publish', '--tai-minus-utc', '9'],
  ['demo', '--seconds', '0'],
  ['demo', '--seconds', ''],
  ['now', '--timescale', '\u001b]0;x\u0007\u009b31m\u202e'],
]) {
  test(`an invalid command line ends with exit code 2: ${JSON.stringify(words)}`, async (t) => {
    const plain = await vmclock(...words)
    t.is(plain.exitCode, 2)
    t.is(plain.stdout, '')
    t.notRegex(plain.stderr, UNSAFE)
    t.regex(plain.stderr, /help|--help/)
    if (words.length === 0) return
    const inJson = await vmclock(...words, '--json')
    t.is(inJson.exitCode, 2)
    t.is(errorOf(inJson)['code'], 'ERR_VMCLOCK_USAGE')
    t.regex(String(errorOf(inJson)['remedy']), /vmclock --help/)
    t.notRegex(inJson.stderr, UNSAFE)
  })
}

for (const [words, flag, range] of [
  [['publish', '--interval', '600h'], '--interval', '100ms to 1s'],
  [['watch', '--interval', '2h'], '--interval', '1ms to 1h'],
  [['metrics', '--interval', '2h'], '--interval', '1s to 1h'],
] as const) {
  test(`a range is the same in an error and in --help: ${words.join(' ')}`, async (t) => {
    const refused = await vmclock(...words)
    t.true(refused.stderr.includes(flag), refused.stderr)
    t.true(refused.stderr.includes(range), refused.stderr)
    const { stdout } = await vmclock(words[0], '--help')
    t.true(stdout.replaceAll(/\s+/g, ' ').includes(range), stdout)
  })
}

test('help for an unknown command is one error line that lists the commands', async (t) => {
  const { exitCode, stdout, stderr } = await vmclock('help', 'bogus')
  t.is(exitCode, 2)
  t.is(stdout, '')
  t.regex(stderr, /^error: +.*'bogus'.*\bstatus, now,.*$/m)
  t.notRegex(stderr, /^Usage:/m)
  t.is((await vmclock('help', 'now')).stdout, (await vmclock('now', '--help')).stdout)
  t.is((await vmclock('help')).stdout, (await vmclock('--help')).stdout)
})

for (const words of [
  ['now'],
  ['publish'],
  ['watch'],
  ['metrics'],
  ['metrics', '--file'],
  ['doctor'],
] as const) {
  test(`a path that is too long is refused on a short line: ${words.join(' ')}`, async (t) => {
    for (const path of ['x'.repeat(4096), 'é'.repeat(2048), '/x'.repeat(50_000)]) {
      const { exitCode, stderr } = await vmclock(...words, path)
      t.is(exitCode, 2)
      t.regex(stderr, /Give a path of at most 4095 bytes\./)
      t.true(stderr.length < 300, stderr)
    }
    const longest = await vmclock(...words, 'x'.repeat(4095))
    t.notRegex(longest.stderr, /at most/)
  })
}

test('a misspelt command is told on one line, with the name that was meant', async (t) => {
  for (const words of [['nowww'], ['now', '--jsno']]) {
    const { exitCode, stderr } = await vmclock(...words)
    t.is(exitCode, 2)
    const meant =
      words.length === 1 ? "'nowww' (Did you mean now?)" : "'--jsno' (Did you mean --json?)"
    t.true(stderr.split('\n')[0]?.endsWith(meant), stderr)
  }
})

// Errors

for (const command of ['status', 'now', 'watch']) {
  test(`${command}: an error is printed with code and remedy, without a stack`, async (t) => {
    const path = newPath(t)
    const plain = await vmclock(command, path)
    t.is(plain.exitCode, 1)
    t.is(plain.stdout, '')
    t.regex(plain.stderr, /^error: {2}.*there is no vmclock page here$/m)
    t.regex(plain.stderr, /^remedy: .*`vmclock publish`/m)
    t.regex(plain.stderr, /^code: {3}ERR_VMCLOCK_NOT_FOUND$/m)
    t.notRegex(plain.stderr, /^\s+at /m)
    const inJson = await vmclock(command, path, '--json')
    t.is(inJson.exitCode, 1)
    t.is(inJson.stdout, '')
    t.is(errorOf(inJson)['code'], 'ERR_VMCLOCK_NOT_FOUND')
    t.is(errorOf(inJson)['path'], path)
    t.regex(String(errorOf(inJson)['remedy']), /`vmclock publish`/)
    t.is(inJson.stderr.trim().split('\n').length, 1)
  })
}

test('without a path and a page, now and status make a page', async (t) => {
  if (VmClock.list().length > 0) {
    t.log('skipped: this machine has a page')
    t.pass()
    return
  }
  for (const command of ['now', 'status']) {
    const { exitCode, stdout } = await vmclock(command)
    t.is(exitCode, 0)
    t.regex(stdout, /^page +in the memory of this process/m)
  }
})

test('unsafe characters of a path never reach the terminal', async (t) => {
  const evil = join(newDirectory(t), 'a\u001b[31m\u009b2J\u202e\u2066\u0007\r\nz')
  mkdirSync(evil)
  for (const words of [
    ['now', evil],
    ['status', evil],
    ['now', `${evil}/page`],
    ['publish', join(evil, 'no', 'page'), '--shape', 'marker'],
  ]) {
    for (const json of [[], ['--json']]) {
      const { exitCode, stdout, stderr } = await vmclock(...words, ...json)
      t.is(exitCode, 1)
      t.notRegex(stdout + stderr, UNSAFE)
    }
  }
  const path = join(evil, 'page')
  const publishing = startCommand(t, ['publish', path, '--shape', 'marker'])
  t.notRegex(await publishing.line(), UNSAFE)
  for (const words of [
    ['status', path],
    ['status', path, '--json'],
  ]) {
    const { exitCode, stdout } = await vmclock(...words)
    t.is(exitCode, 0)
    t.notRegex(stdout, UNSAFE)
    if (words.includes('--json')) t.is(parse(stdout)['path'], path)
  }
  publishing.child.stdin.write('\u001b[2J\u202e\n')
  t.notRegex(await publishing.errorLine(), UNSAFE)
  publishing.child.stdin.write('quit\n')
  t.is((await publishing.outcome).exitCode, 0)
})

// now

test('now: prints the time, its bound and its interval', async (t) => {
  const { path } = page(t, { ...liveFields(t), timeSec: 1767225600n })
  const plain = await vmclock('now', path)
  t.is(plain.exitCode, 0)
  t.is(plain.stderr, '')
  t.regex(plain.stdout, /^time +2026-01-01T00:0\d:\d\d\.\d{9}Z$/m)
  t.regex(plain.stdout, /^bound +± 1\.001 µs$/m)
  t.regex(plain.stdout, /^earliest +2026-01-01T/m)
  t.regex(plain.stdout, /^latest +2026-01-01T/m)
  const printed = parse((await vmclock('now', path, '--json')).stdout)
  t.is(printed['maxErrorNs'], '1001')
  t.is(BigInt(String(printed['latestNs'])) - BigInt(String(printed['earliestNs'])), 2002n)
  t.is(printed['timescale'], 'utc')
  t.is(printed['path'], path)
})

test('now: says why the bound is unknown, and which option supplies it', async (t) => {
  const fields = { ...liveFields(t), flags: FLAG.TIME_MAXERROR_VALID }
  const { path } = page(t, fields)
  t.regex((await vmclock('now', path)).stdout, /^bound +unknown: .*its rate; --assumed-drift/m)
  t.regex((await vmclock('now', path, '--assumed-drift', '50')).stdout, /^bound +± /m)
  const noBound = page(t, { ...fields, flags: FLAG.PERIOD_MAXERROR_VALID })
  t.regex(
    (await vmclock('now', noBound.path)).stdout,
    /^bound +unknown: .*error of its time; --assumed-error supplies it$/m,
  )
  const freeRunning = page(t, { ...fields, clockStatus: 3, flags: 0n })
  t.regex((await vmclock('now', freeRunning.path)).stdout, /^bound +unknown: .*not synchronized/m)
  t.false('maxErrorNs' in parse((await vmclock('now', path, '--json')).stdout))
})

test('now, status: say why a published page has no bound, and until when', async (t) => {
  const { path } = page(t, { ...liveFields(t), flags: FLAG.PERIOD_MAXERROR_VALID })
  const boundUnavailable = { reason: 'stepped', updatesLeft: 12 } as const
  stateNoBound(path, boundUnavailable)
  const bound =
    /^bound +unknown: the clock was stepped by another process; the bound returns after 12 more updates of the time daemon$/m
  t.regex((await vmclock('now', path)).stdout, bound)
  t.regex((await vmclock('status', path)).stdout, bound)
  const now = parse((await vmclock('now', path, '--json')).stdout)
  t.deepEqual(now['boundUnavailable'], boundUnavailable)
  const status = parse((await vmclock('status', path, '--json')).stdout)
  t.like(status['page'], { boundUnavailable })
})

test('now: --require-synchronized refuses a free-running clock', async (t) => {
  const words = ['--require-synchronized', '--json']
  const freeRunning = page(t, { ...liveFields(t), clockStatus: 3 })
  t.is((await vmclock('now', freeRunning.path)).exitCode, 0)
  const refused = await vmclock('now', freeRunning.path, ...words)
  t.is(refused.exitCode, 1)
  t.is(errorOf(refused)['code'], 'ERR_VMCLOCK_UNSYNCHRONIZED')
  t.is((await vmclock('now', page(t, liveFields(t)).path, ...words)).exitCode, 0)
})

test('now: reads other timescales and the other document', async (t) => {
  const flags = liveFields(t).flags | FLAG.TAI_OFFSET_VALID
  const { path } = page(t, {
    ...liveFields(t),
    flags,
    taiOffsetSec: 37,
    timeMaxerrorNanosec: 5000n,
  })
  t.regex((await vmclock('now', path, '--timescale', 'tai')).stdout, /^time +2026-01-01T.* TAI$/m)
  t.is((await vmclock('now', path, '--timescale', 'monotonic')).exitCode, 1)
  const tai = page(t, { ...liveFields(t), timeType: 1 })
  t.regex(
    (await vmclock('now', tai.path, '--timescale', 'page')).stdout,
    /^time +2026-01-01T.* TAI$/m,
  )
  t.is((await vmclock('now', tai.path)).exitCode, 1)
  const rfc = parse((await vmclock('now', path, '--abi', 'rfc-v4', '--json')).stdout)
  t.is(rfc['maxErrorNs'], '6')
})

// status

test('status: explains a page without time', async (t) => {
  const { path } = page(t, { disruptionMarker: 2n ** 64n - 1n, flags: FLAG.DISRUPTION_SOON })
  const { exitCode, stdout } = await vmclock('status', path)
  t.is(exitCode, 0)
  t.regex(stdout, /^time +none on this machine now: the page carries no time/m)
  t.regex(stdout, /^remedy +.*(without a path|published here)/m)
  t.regex(stdout, /^code +ERR_VMCLOCK_NO_TIME$/m)
  t.regex(stdout, /^disruption +marker 18446744073709551615$/m)
  t.regex(stdout, /^maintenance +.*within about a day/m)
  const printed = parse((await vmclock('status', path, '--json')).stdout)
  t.is(printed['hasTime'], false)
  t.is((printed['noTime'] as { code: string }).code, 'ERR_VMCLOCK_NO_TIME')
  t.is((printed['page'] as { disruptionMarker: string }).disruptionMarker, '18446744073709551615')
})

test('status: reads a page in the timescale that it provides', async (t) => {
  for (const [timeType, name] of ['utc', 'tai', 'monotonic'].entries()) {
    const { path } = page(t, { ...liveFields(t), timeType })
    const printed = parse((await vmclock('status', path, '--json')).stdout)
    t.is((printed['reading'] as { timescale: string }).timescale, name)
    t.regex((await vmclock('status', path)).stdout, /^clock +synchronized/m)
  }
})

test('status: --assumed-drift supplies the missing rate error', async (t) => {
  const { path } = page(t, { ...liveFields(t), flags: FLAG.TIME_MAXERROR_VALID })
  t.regex((await vmclock('status', path)).stdout, /^bound +unknown: .*--assumed-drift/m)
  t.regex((await vmclock('status', path, '--assumed-drift', '1')).stdout, /^bound +± /m)
})

test('status: --assumed-error supplies the missing error of the time', async (t) => {
  const { path } = page(t, { ...liveFields(t), flags: 0n })
  t.regex((await vmclock('status', path)).stdout, /^bound +unknown: .*--assumed-error/m)
  const half = await vmclock('status', path, '--assumed-error', '50us')
  t.regex(half.stdout, /^bound +unknown: .*--assumed-drift/m)
  const whole = await vmclock('status', path, '--assumed-error', '50us', '--assumed-drift', '1')
  t.regex(whole.stdout, /^bound +± /m)
})

test('status: a page stuck in an update is an error', async (t) => {
  const made = page(t, {})
  made.begin()
  const outcome = await vmclock('status', made.path, '--json')
  t.is(outcome.exitCode, 1)
  t.is(errorOf(outcome)['code'], 'ERR_VMCLOCK_TIMEOUT')
})

test('status: lists the pages of the machine if no path is given', async (t) => {
  const { path } = page(t, {})
  const { stdout, exitCode } = await run([commandLine, 'status', '--json'], {
    env: { VMCLOCK_PATH: path },
  })
  t.is(exitCode, 0)
  t.is(parse(stdout)['path'], path)
  t.true((parse(stdout)['pages'] as string[]).includes(path))
})

// publish

test('publish: executes and answers each command from standard input', async (t) => {
  const publisher = await publish(t, '--shape', 'marker-and-generation')
  const clock = open(t, publisher.path)
  const say = async (text: string): Promise<Record<string, unknown>> => {
    publisher.child.stdin.write(`${text}\n`)
    return parse(await publisher.line())
  }
  const token = clock.continuityToken()
  t.is((await say('disrupt'))['event'], 'disrupted')
  t.false(clock.isContinuous(token))
  t.is((await say('  generation  '))['event'], 'generation-changed')
  t.not(clock.continuityToken().vmGeneration, token.vmGeneration)
  t.deepEqual(await say('maintenance soon'), { event: 'maintenance', announced: 'soon' })
  t.true(clock.snapshot().disruptionSoon)
  t.is((await say('maintenance none'))['event'], 'maintenance')
  t.regex(String((await say('status'))['updates']), /^\d+$/)
  for (const wrong of ['disrupted', 'maintenance later', 'maintenance', 'x'.repeat(1000)]) {
    publisher.child.stdin.write(`${wrong}\n`)
    const { error } = parse(await publisher.errorLine()) as { error: { code: string } }
    t.is(error.code, 'ERR_VMCLOCK_INVALID_ARGUMENT')
  }
  t.is((await say('disrupt'))['event'], 'disrupted')
  // A command after quit is ignored, although it arrives with it.
  t.is((await say('quit\ndisrupt'))['event'], 'stopped')
  const { exitCode, stderr } = await publisher.outcome
  t.is(exitCode, 0)
  t.is(stderr.trim().split('\n').length, 4, stderr)
})

for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
  test(`publish: ${signal} marks the page unreliable and ends with 0`, async (t) => {
    const publisher = await publish(t, '--max-error', '5ms', '--interval', '100ms')
    const clock = open(t, publisher.path)
    t.is(clock.read().status, 'synchronized')
    publisher.child.kill(signal)
    const { exitCode, stderr } = await publisher.outcome
    t.is(exitCode, 0)
    t.is(stderr, '')
    t.is(clock.snapshot().clockStatus, 'unreliable')
    t.true(contents(join(publisher.path, '..')).includes('page'))
  })
}

test('publish: gives the same reason for a missing bound as its page', async (t) => {
  const path = newPath(t)
  const publisher = startCommand(t, ['publish', path, '--json', '--allow-untrusted-counter'])
  const published = parse(await publisher.line())
  const clock = open(t, path)
  const { boundUnavailable } = clock.snapshot()
  const { reason } = (published['boundUnavailable'] ?? {}) as { reason?: string }
  t.is(reason, boundUnavailable?.reason)
  t.is(clock.read().maxErrorNs === undefined, boundUnavailable !== undefined)
  publisher.child.stdin.write('status\n')
  const status = parse(await publisher.line())
  t.deepEqual(status['boundUnavailable'], published['boundUnavailable'])
  publisher.child.kill('SIGTERM')
  t.is((await publisher.outcome).exitCode, 0)
})

test('publish: reports each change of the reason for a missing bound, once', (t) => {
  const stepped = (updatesLeft: number) => ({ reason: 'stepped', updatesLeft }) as const
  const pending = { reason: 'change-pending', updatesLeft: undefined } as const
  const bound = new PublisherBound(undefined)
  t.deepEqual(bound.fields(true), {})
  t.deepEqual(
    [undefined, pending, pending, stepped(64), stepped(63), stepped(60), undefined, undefined].map(
      (unavailable) => bound.observe(unavailable, 0n),
    ),
    [
      undefined,
      'bound-unavailable',
      undefined,
      'bound-unavailable',
      undefined,
      undefined,
      'bound-available',
      undefined,
    ],
  )
})

test('publish: estimates when the bound returns from the interval of two updates', (t) => {
  const boundUnavailable = { reason: 'stepped', updatesLeft: 12 } as const
  const after = (seconds: number): bigint => BigInt(seconds) * 1_000_000_000n
  const bound = new PublisherBound({ ...boundUnavailable, updatesLeft: 15 })
  const observe = (updatesLeft: number, seconds: number): void => {
    t.is(bound.observe({ ...boundUnavailable, updatesLeft }, after(seconds)), undefined)
  }
  observe(15, 5)
  // The update before this one is not known.
  observe(14, 10)
  t.is(bound.fields(true)['boundReturnsInNs'], undefined)
  observe(14, 20)
  observe(12, 42)
  t.deepEqual(bound.fields(true), { boundUnavailable, boundReturnsInNs: after(12 * 16) })
  t.regex(
    String(bound.fields(false)['no bound:']),
    /after 12 more updates of the time daemon, in about 192\.0 s$/,
  )
  // Another reason begins another count.
  t.is(bound.observe({ ...boundUnavailable, reason: 'suspended' }, after(43)), 'bound-unavailable')
  t.is(bound.fields(true)['boundReturnsInNs'], undefined)
})

test('publish: the end of standard input does not stop it', async (t) => {
  const publisher = await publish(t, '--tai-minus-utc', '37')
  publisher.child.stdin.end()
  const clock = open(t, publisher.path)
  const { seqCount } = clock.snapshot().raw
  while (clock.snapshot().raw.seqCount < seqCount + 6) {
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  t.true(clock.nowNs() > 0n)
  publisher.child.kill('SIGTERM')
  t.is((await publisher.outcome).exitCode, 0)
})

test('publish: a page with another publisher is an error', async (t) => {
  const publisher = await publish(t)
  const outcome = await vmclock('publish', publisher.path, '--json', '--allow-untrusted-counter')
  t.is(outcome.exitCode, 1)
  t.is(errorOf(outcome)['code'], 'ERR_VMCLOCK_BUSY')
  publisher.child.kill('SIGTERM')
  t.is((await publisher.outcome).exitCode, 0)
})

// watch

test('watch: prints the time and every event as one JSON object per line', async (t) => {
  const made = page(t, liveFields(t))
  const watching = startCommand(t, ['watch', made.path, '--json', '--interval', '1ms'])
  t.like(parse(await watching.line()), {
    event: 'begin',
    path: made.path,
    timeSource: { kind: 'path', path: made.path },
  })
  const stamp = parse(await watching.line())
  t.is(stamp['event'], 'stamp')
  t.regex((stamp['reading'] as { epochNs: string }).epochNs, /^\d{19}$/)
  t.regex(String(stamp['systemOffsetNs']), /^-?\d+$/)
  const printed = async (event: string): Promise<Record<string, unknown>> =>
    parse(await watching.lineThat((text) => parse(text)['event'] === event))
  made.write({ disruptionMarker: 5n })
  const disruption = { event: 'disruption', previous: '0', current: '5', updates: 1 }
  t.like(await printed('disruption'), { ...disruption, seqCount: made.seqCount })
  made.write({ clockStatus: 4 })
  t.is((await printed('status'))['current'], 'unreliable')
  const refused = parse(await watching.lineThat((text) => parse(text)['noTime'] !== undefined))
  t.is((refused['noTime'] as { code: string }).code, 'ERR_VMCLOCK_UNSYNCHRONIZED')
  made.begin()
  t.is((await printed('error'))['code'], 'ERR_VMCLOCK_TIMEOUT')
  made.write({ leapIndicator: 1 })
  t.is((await printed('leap'))['current'], 'pre-positive')
  const again = page(t, {}).path
  renameSync(again, made.path)
  t.like(await printed('replaced'), { event: 'replaced', path: made.path })
  watching.child.kill('SIGTERM')
  const { exitCode, stderr } = await watching.outcome
  t.is(exitCode, 0)
  t.is(stderr, '')
})

for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
  test(`watch: prints the events of a page without time as text until ${signal}`, async (t) => {
    const made = page(t, { disruptionMarker: 1n })
    const watching = startCommand(t, ['watch', made.path, '--interval', '1ms'])
    t.is(await watching.line(), `Watching ${made.path}.`)
    t.regex(await watching.line(), /^time none: the page carries no time/)
    made.write({ disruptionMarker: 2n })
    t.is(await watching.lineThat((text) => !text.startsWith('time ')), 'disruption: 1 → 2')
    made.write({ flags: FLAG.DISRUPTION_SOON })
    t.is(await watching.lineThat((text) => !text.startsWith('time ')), 'maintenance: none → soon')
    renameSync(page(t, {}).path, made.path)
    const replaced = await watching.lineThat((text) => text.startsWith('replaced: '))
    t.regex(replaced, /another file is at this page's path/)
    watching.child.kill(signal)
    const { exitCode, stdout, stderr } = await watching.outcome
    t.is(exitCode, 0)
    t.is(stderr, '')
    t.notRegex(stdout, UNSAFE)
  })
}

test('watch: updates the time in place on a terminal', async (t) => {
  const { path } = page(t, liveFields(t))
  if (spawnSync('script', ['--version']).error !== undefined) {
    t.log('skipped: there is no `script` program')
    return
  }
  const watching = start([commandLine, 'watch', path], { by: onATerminal, env: { TERM: 'xterm' } })
  t.teardown(() => watching.child.kill('SIGKILL'))
  // The cursor moves up to write over the lines of the first round.
  const over = await watching.lineThat((text) => text.includes('\u001b[3A'))
  t.regex(over, /time {10}.*\d{4}-\d\d-\d\dT/)
  watching.child.stdin.write('\u0003')
  t.is((await watching.outcome).exitCode, 0)
})

// Streams

test('a closed standard output is not an error', async (t) => {
  const { path } = page(t, liveFields(t))
  for (const words of [
    ['status', path],
    ['now', path],
    ['watch', path],
    ['demo', '--seconds', '1'],
  ]) {
    const running = startCommand(t, words)
    running.child.stdout.destroy()
    const { exitCode, stderr } = await running.outcome
    t.is(stderr, '')
    t.is(exitCode, 0)
  }
})

test('colours are printed on terminals only, and not with NO_COLOR', async (t) => {
  const { path } = page(t, liveFields(t))
  const plain = await run([commandLine, 'now', path], { env: { NO_COLOR: '' } })
  t.notRegex(plain.stdout, UNSAFE)
  if (spawnSync('script', ['--version']).error !== undefined) {
    t.log('the rest is skipped: there is no `script` program')
    return
  }
  const onTerminal = (env: NodeJS.ProcessEnv): Promise<Outcome> =>
    run([commandLine, 'now', path], { by: onATerminal, env: { TERM: 'xterm', ...env } })
  t.true((await onTerminal({ NO_COLOR: '' })).stdout.includes('\u001b['))
  t.false((await onTerminal({ NO_COLOR: '1' })).stdout.includes('\u001b['))
})

// demo

/** Starts the demo with its own temporary directory, which must be empty afterwards. */
function startDemo(t: ExecutionContext, ...words: string[]): Running & { temporary: string } {
  const temporary = newDirectory(t)
  return { ...startCommand(t, ['demo', ...words], { TMPDIR: temporary }), temporary }
}

function leavesNothing(t: ExecutionContext, temporary: string, pid: number): void {
  t.deepEqual(readdirSync(temporary), [])
  t.deepEqual(held(temporary), [])
  t.throws(() => process.kill(pid, 0), { code: 'ESRCH' })
}

test('demo: both events are noticed and nothing is left behind', async (t) => {
  const demo = startDemo(t, '--seconds', '1', '--json')
  const { exitCode, stdout, stderr } = await demo.outcome
  t.is(exitCode, 0, stderr)
  const printed = stdout.trim().split('\n').map(parse)
  const names = printed.map(({ event }) => event)
  t.is(names[0], 'begin')
  t.is(names.at(-1), 'end')
  for (const name of ['stamp', 'disruption', 'maintenance']) t.true(names.includes(name), name)
  const stamp = printed.find(({ event }) => event === 'stamp') as Record<string, unknown>
  const reading = stamp['reading'] as { epochNs: string; maxErrorNs?: string }
  t.regex(reading.epochNs, /^\d{19}$/)
  t.is(reading.maxErrorNs === undefined, 'boundUnavailable' in stamp)
  t.true(Number(stamp['stampsPerSecond']) > 0)
  leavesNothing(t, demo.temporary, Number(printed[0]?.['publisherPid']))
})

test('demo: prints the course as text', async (t) => {
  const demo = startDemo(t, '--seconds', '1')
  const { exitCode, stdout } = await demo.outcome
  t.is(exitCode, 0)
  t.regex(stdout, /bound (± |unknown: .*relative to that clock)/)
  t.regex(stdout, /system clock [+-]?[\d.]+ (ns|µs|ms) from the page/)
  t.regex(stdout, /^disruption: /m)
  t.regex(stdout, /^maintenance: /m)
  t.notRegex(stdout, UNSAFE)
})

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test(`demo: ${signal} ends it, and nothing is left behind`, async (t) => {
    const demo = startDemo(t, '--seconds', '600', '--json')
    const { publisherPid } = parse(await demo.line())
    await demo.lineThat((text) => parse(text)['event'] === 'stamp')
    demo.child.kill(signal)
    t.is((await demo.outcome).exitCode, 0)
    leavesNothing(t, demo.temporary, Number(publisherPid))
  })
}

test('demo: the death of its publisher is an error, and nothing is left behind', async (t) => {
  const demo = startDemo(t, '--seconds', '600', '--json')
  const { publisherPid } = parse(await demo.line())
  process.kill(Number(publisherPid), 'SIGKILL')
  const outcome = await demo.outcome
  t.is(outcome.exitCode, 1)
  t.regex(String(errorOf(outcome)['message']), /publishing process is gone \(ended by SIGKILL\)/)
  leavesNothing(t, demo.temporary, Number(publisherPid))
})

test('demo: its publisher ends when the demo is killed', async (t) => {
  const demo = startDemo(t, '--seconds', '600', '--json')
  const { publisherPid, path } = parse(await demo.line())
  const clock = open(t, String(path))
  demo.child.kill('SIGKILL')
  await demo.outcome
  while (clock.snapshot().clockStatus !== 'unreliable') {
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  t.true(Number(publisherPid) > 0)
})
