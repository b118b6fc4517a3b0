// A published page is true and complete, has one publisher, and is marked when nobody updates it any more.

import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { VmClock, VmClockPublisher, type VmClockPublisherOptions } from 'vmclock'
import { VmClockPage } from 'vmclock/testing'
import { commandLine, evaluate, type Running, start } from './node-command'
import { COUNTER_ID, contents, held, newPath, open, refuses } from './pages'

function publish(
  t: ExecutionContext,
  path: string,
  options: VmClockPublisherOptions = {},
): VmClockPublisher {
  const publisher = VmClockPublisher.create(path, { allowUntrustedCounter: true, ...options })
  t.teardown(() => publisher.close())
  return publisher
}

/** Waits for the publisher's next updates. */
async function updates(publisher: VmClockPublisher, count: bigint): Promise<void> {
  const until = publisher.updates + count
  while (publisher.updates < until) await delay(10)
}

test('create returns a page with time that all may read and only the owner may write', (t) => {
  const path = newPath(t)
  const publisher = publish(t, path)
  t.is(publisher.path, path)
  t.is(statSync(path).mode & 0o777, 0o644)
  const clock = open(t, path)
  t.true(clock.hasTime)
  t.is(clock.snapshot().raw.counterId, COUNTER_ID)
  t.true(Math.abs(clock.nowMs() - Date.now()) < 60_000)
})

test('the umask does not change the mode of a page', async (t) => {
  const path = newPath(t)
  const mode = await evaluate<number>(
    `process.umask(0o077)
    const { VmClockPublisher } = require('vmclock')
    const publisher = VmClockPublisher.create(${JSON.stringify(path)}, { shape: 'marker' })
    publisher.close()
    console.log(require('node:fs').statSync(${JSON.stringify(path)}).mode & 0o777)`,
  )
  t.is(mode, 0o644)
})

test('a publisher updates its page again and again', async (t) => {
  const publisher = publish(t, newPath(t), { intervalMs: 100 })
  const clock = open(t, publisher.path)
  const before = clock.snapshot().raw.seqCount
  await updates(publisher, 3n)
  t.true(clock.snapshot().raw.seqCount >= before + 6)
  t.true(publisher.cpuTimeNs > 0n)
  t.is(publisher.failure, undefined)
})

test('hostErrorNs cannot be stated beside maxErrorNs, and both options are named', (t) => {
  const both = { maxErrorNs: 1n, hostErrorNs: 1n }
  refuses(
    t,
    () => publish(t, newPath(t), both),
    'ERR_VMCLOCK_INVALID_ARGUMENT',
    /two errors are stated.*maxErrorNs.*hostErrorNs/,
  )
})

test('maxErrorNs makes the page synchronized, with that bound', (t) => {
  const publisher = publish(t, newPath(t), { maxErrorNs: 5_000_000n })
  const { status, maxErrorNs = 0n } = open(t, publisher.path).read()
  t.is(status, 'synchronized')
  t.true(maxErrorNs >= 5_000_000n && maxErrorNs < 50_000_000n, `${maxErrorNs}`)
})

test('options on Object.prototype are ignored', (t) => {
  const path = newPath(t)
  const polluted = { maxErrorNs: 1n, taiMinusUtcSec: 200, mode: 0o666 }
  for (const [name, value] of Object.entries(polluted)) {
    Object.defineProperty(Object.prototype, name, { value, writable: true, configurable: true })
  }
  try {
    publish(t, path)
  } finally {
    for (const name of Object.keys(polluted)) Reflect.deleteProperty(Object.prototype, name)
  }
  t.is(statSync(path).mode & 0o777, 0o644)
  const { maxErrorNs, taiMinusUtcSec } = open(t, path).read()
  t.not(taiMinusUtcSec, 200)
  t.true(maxErrorNs === undefined || maxErrorNs > 1000n, `${maxErrorNs}`)
})

test('an unsynchronized clock is published as free-running, without a bound, and the page says why', (t) => {
  const publisher = publish(t, newPath(t))
  const clock = open(t, publisher.path)
  const reading = clock.read()
  const { boundUnavailable } = clock.snapshot()
  if (reading.status === 'synchronized') {
    t.is(reading.maxErrorNs === undefined, boundUnavailable !== undefined)
  } else {
    t.is(reading.status, 'free-running')
    t.is(reading.maxErrorNs, undefined)
    t.is(boundUnavailable?.reason, 'unsynchronized')
    t.true(boundUnavailable && Object.hasOwn(boundUnavailable, 'updatesLeft'))
    t.deepEqual(publisher.boundUnavailable, boundUnavailable)
  }
})

test('a page with a stated bound gives no reason for its absence', (t) => {
  const publisher = publish(t, newPath(t), { maxErrorNs: 1_000_000n })
  t.is(publisher.boundUnavailable, undefined)
  t.is(open(t, publisher.path).snapshot().boundUnavailable, undefined)
})

test('taiMinusUtcSec is published', (t) => {
  const { path } = publish(t, newPath(t), { taiMinusUtcSec: 37 })
  const [utc, tai] = [open(t, path), open(t, path, { timescale: 'tai' })]
  const token = utc.continuityToken()
  const counter = utc.counter()
  const apart = tai.convert(counter, token).epochNs - utc.convert(counter, token).epochNs
  t.is(apart % 1_000_000_000n, 0n)
  t.is(utc.read().taiMinusUtcSec, Number(apart / 1_000_000_000n))
})

for (const [shape, hasGeneration] of [
  ['marker', false],
  ['marker-and-generation', true],
] as const) {
  test(`the shape ${shape} has no time`, (t) => {
    const publisher = publish(t, newPath(t), { shape })
    const clock = open(t, publisher.path)
    t.false(clock.hasTime)
    t.is(clock.snapshot().counterKind, 'none')
    t.is(clock.continuityToken().vmGeneration !== undefined, hasGeneration)
    const token = clock.continuityToken()
    publisher.disrupt()
    t.false(clock.isContinuous(token))
    if (hasGeneration) {
      t.notThrows(() => publisher.bumpGeneration())
    } else {
      refuses(t, () => publisher.bumpGeneration(), 'ERR_VMCLOCK_INVALID_ARGUMENT', /generation/)
    }
  })
}

test('generation adds and removes the counter, and the next publisher keeps its value', (t) => {
  const path = newPath(t)
  const first = publish(t, path, { generation: true })
  const clock = open(t, path)
  first.bumpGeneration()
  const token = clock.continuityToken()
  t.not(token.vmGeneration, undefined)
  first.close()
  publish(t, path, { generation: true }).close()
  t.is(clock.continuityToken().vmGeneration, token.vmGeneration)
  t.true(clock.isContinuous(token))
  const without = publish(t, path, { generation: false })
  t.is(clock.continuityToken().vmGeneration, undefined)
  t.false(clock.isContinuous(token))
  refuses(
    t,
    () => without.bumpGeneration(),
    'ERR_VMCLOCK_INVALID_ARGUMENT',
    /generation: true.*--generation yes/,
  )
})

test('by default a page has a generation counter only if the machine’s device has', (t) => {
  const publisher = publish(t, newPath(t))
  const { vmGeneration } = open(t, publisher.path).continuityToken()
  t.is(vmGeneration !== undefined, deviceHasGeneration())
})

/** Returns true if this machine's own device has a generation counter. */
function deviceHasGeneration(): boolean {
  if (!existsSync('/dev/vmclock0')) return false
  const device = VmClock.open('/dev/vmclock0')
  try {
    return device.continuityToken().vmGeneration !== undefined
  } finally {
    device.close()
  }
}

test('closing marks the page unreliable, releases it, and leaves the file', (t) => {
  const path = newPath(t)
  const publisher = publish(t, path)
  const clock = VmClock.open(path)
  t.true(clock.nowNs() > 0n)
  publisher.close()
  publisher.close()
  t.true(publisher.closed)
  refuses(t, () => clock.nowNs(), 'ERR_VMCLOCK_UNSYNCHRONIZED', /unreliable/)
  t.is(clock.snapshot().clockStatus, 'unreliable')
  clock.close()
  t.deepEqual(held(dirname(path)), [])
  t.true(contents(dirname(path)).includes('page'))
})

test('a closed publisher refuses every call', (t) => {
  const publisher = publish(t, newPath(t), { shape: 'marker' })
  publisher.close()
  for (const call of [
    () => publisher.disrupt(),
    () => publisher.bumpGeneration(),
    () => publisher.setMaintenance('none'),
    () => publisher.updates,
    () => publisher.cpuTimeNs,
    () => publisher.failure,
    () => publisher.boundUnavailable,
  ]) {
    refuses(t, call, 'ERR_VMCLOCK_CLOSED', /open a new one/)
  }
})

test('a page has one live publisher', async (t) => {
  const path = newPath(t)
  const publisher = publish(t, path)
  const bytes = readFileSync(path).length
  refuses(
    t,
    () => publish(t, path),
    'ERR_VMCLOCK_BUSY',
    /stop it first, or publish to another path/,
  )
  const elsewhere = await evaluate<string>(
    `const { VmClockPublisher } = require('vmclock')
    try { VmClockPublisher.create(${JSON.stringify(path)}, { allowUntrustedCounter: true }) }
    catch ({ code }) { console.log(JSON.stringify(code)) }`,
  )
  t.is(elsewhere, 'ERR_VMCLOCK_BUSY')
  t.is(readFileSync(path).length, bytes)
  t.true(open(t, path).nowNs() > 0n)
  publisher.close()
})

test('the next publisher takes the page over, and its readers carry on', (t) => {
  const path = newPath(t)
  const first = publish(t, path)
  const clock = open(t, path)
  const token = clock.continuityToken()
  const inode = statSync(path).ino
  first.close()
  const second = publish(t, path)
  t.is(statSync(path).ino, inode)
  t.true(clock.nowNs() > 0n)
  t.true(clock.isContinuous(token))
  second.disrupt()
  t.false(clock.isContinuous(token))
})

test('a publisher that died leaves its page to the next one', async (t) => {
  const path = newPath(t)
  await evaluate(
    `const { VmClockPublisher } = require('vmclock')
    const publisher = VmClockPublisher.create(${JSON.stringify(path)}, { allowUntrustedCounter: true })
    require('node:fs').writeSync(1, '0')
    publisher.updates
    process.kill(process.pid, 'SIGKILL')
    setInterval(() => {}, 1000)`,
  ).catch(() => {})
  const clock = open(t, path)
  t.true(clock.nowNs() > 0n)
  publish(t, path)
  t.true(clock.nowNs() > 0n)
})

test('a polite restart with keepOnExit refuses no call, and changes no token', async (t) => {
  const path = newPath(t)
  const words = ['--allow-untrusted-counter', '--keep-on-exit', '--max-error', '5ms', '--json']
  const begin = async (): Promise<Running> => {
    const running = start([commandLine, 'publish', path, ...words])
    t.teardown(() => running.child.kill('SIGKILL'))
    t.like(JSON.parse(await running.line()), { event: 'published' })
    return running
  }
  let publishing = await begin()
  const clock = open(t, path)
  const token = clock.continuityToken()
  const inode = statSync(path).ino
  let calls = 0
  // Any refusal throws. Every call comes back to the event loop, which runs the restarts.
  const stamp = async (until: Promise<unknown>): Promise<void> => {
    let isOver = false
    const end = until.then(() => {
      isOver = true
    })
    while (!isOver) {
      for (let call = 0; call < 100; call++) {
        if (clock.read().maxErrorNs === undefined) throw new Error('a reading without a bound')
        calls++
      }
      if (!clock.isContinuous(token)) throw new Error('a disruption was reported')
      await delay(0)
    }
    await end
  }
  const restart = async (): Promise<void> => {
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
      publishing.child.kill(signal)
      t.is((await publishing.outcome).exitCode, 0)
      t.deepEqual(contents(dirname(path)), ['page'])
      publishing = await begin()
    }
  }
  await stamp(restart())
  t.true(calls > 0)
  t.is(statSync(path).ino, inode)
})

test('keepOnExit leaves the page as it is, and later publishers of this kind only', (t) => {
  const path = newPath(t)
  publish(t, path, { keepOnExit: true }).close()
  const clock = open(t, path)
  t.not(clock.snapshot().clockStatus, 'unreliable')
  publish(t, path).close()
  t.is(clock.snapshot().clockStatus, 'unreliable')
})

test('an update that was never ended is ended by the next publisher', (t) => {
  const path = newPath(t)
  publish(t, path).close()
  const dead = VmClockPage.open(path)
  dead.begin()
  dead.close()
  const clock = open(t, path)
  publish(t, path)
  t.true(clock.nowNs() > 0n)
})

test('a publisher does not keep the process alive', async (t) => {
  const path = newPath(t)
  t.is(
    await evaluate(
      `const { VmClockPublisher } = require('vmclock')
      const publisher = VmClockPublisher.create(${JSON.stringify(path)}, { allowUntrustedCounter: true })
      console.log(JSON.stringify(publisher.closed))`,
    ),
    false,
  )
})

for (const [how, end] of [
  ['process.exit', 'process.exit(0)'],
  ['an error that nobody catches', 'throw new Error("expected")'],
] as const) {
  test(`a publisher that is left open is closed when its process ends by ${how}`, async (t) => {
    const path = newPath(t)
    const script = `const { VmClockPublisher } = require('vmclock')
      VmClockPublisher.create(${JSON.stringify(path)}, { allowUntrustedCounter: true })
      ${end}`
    t.is((await start(['-e', script]).outcome).signal, null)
    t.is(open(t, path).snapshot().clockStatus, 'unreliable')
    t.deepEqual(contents(dirname(path)), ['page'])
  })
}

test('a publisher without a reference goes on', async (t) => {
  const path = newPath(t)
  const status = await evaluate<string>(
    `const { VmClock, VmClockPublisher } = require('vmclock')
    require('node:v8').setFlagsFromString('--expose-gc')
    const gc = require('node:vm').runInNewContext('gc')
    const make = () => { VmClockPublisher.create(${JSON.stringify(path)}, { allowUntrustedCounter: true }) }
    make()
    const collect = (rounds) => {
      gc()
      if (rounds > 0) return setImmediate(collect, rounds - 1)
      console.log(JSON.stringify(VmClock.open(${JSON.stringify(path)}).snapshot().clockStatus))
    }
    collect(10)`,
  )
  t.not(status, 'unreliable')
})

test('create refuses a missing directory', (t) => {
  const path = join(newPath(t), 'below')
  refuses(t, () => publish(t, path), 'ERR_VMCLOCK_NOT_FOUND', /directory/)
})

test('create refuses a directory and a file of another kind', (t) => {
  const path = newPath(t)
  mkdirSync(path)
  refuses(t, () => publish(t, path), 'ERR_VMCLOCK_UNTRUSTED', /regular file/)
  const other = newPath(t)
  writeFileSync(other, 'dear diary\n'.repeat(1000))
  refuses(t, () => publish(t, other), 'ERR_VMCLOCK_BAD_MAGIC', /path/)
  t.true(readFileSync(other, 'utf8').startsWith('dear diary'))
})

test('create refuses a directory that it may not write', async (t) => {
  const path = newPath(t)
  chmodSync(dirname(path), 0o555)
  const code = await evaluate<string>(
    `const { VmClockPublisher } = require('vmclock')
    if (process.getuid() === 0) { process.setgroups([]); process.setgid(65534); process.setuid(65534) }
    try { VmClockPublisher.create(${JSON.stringify(path)}, { shape: 'marker' }) }
    catch ({ code }) { console.log(JSON.stringify(code)) }`,
  )
  t.is(code, 'ERR_VMCLOCK_ACCESS')
  chmodSync(dirname(path), 0o755)
  t.deepEqual(contents(dirname(path)), [])
})

for (const [what, options, remedy] of [
  ['an unknown name', { intervall: 1 }, /use only: shape, generation, from, intervalMs/],
  ['an unknown shape', { shape: 'cloud' }, /'time' or 'marker' or 'marker-and-generation'/],
  ['an unknown generation', { generation: 'yes' }, /'auto' or true or false/],
  [
    'a generation counter with the shape marker',
    { shape: 'marker', generation: true },
    /marker-and/,
  ],
  [
    'no generation counter with the shape marker-and-generation',
    { shape: 'marker-and-generation', generation: false },
    /give the shape marker/,
  ],
  ['an interval of 0', { intervalMs: 0 }, /intervalMs/],
  ['an interval below 100 ms', { intervalMs: 99 }, /100/],
  ['an interval above 1 s', { intervalMs: 1001 }, /1000|1 s/],
  ['an interval that is no whole number', { intervalMs: 100.5 }, /whole number/],
  ['a maximum error that is a number', { maxErrorNs: 5 }, /bigint/],
  ['a maximum error below 0', { maxErrorNs: -1n }, /bigint from 0n/],
  ['an impossible TAI - UTC', { taiMinusUtcSec: 9 }, /from 10 to 255/],
  ['a wander below 0', { wanderPpm: -1 }, /wanderPpm/],
  [
    'an error that holds after a migration and is not stated',
    { maxErrorAfterMigration: true },
    /--max-error/,
  ],
  ['a flag that is no boolean', { allowUntrustedCounter: 'yes' }, /true or false/],
  ['an impossible mode', { mode: 0o1000 }, /mode/],
] as const) {
  test(`create refuses ${what}`, (t) => {
    const path = newPath(t)
    const call = (): unknown => VmClockPublisher.create(path, options as unknown as object)
    refuses(t, call, 'ERR_VMCLOCK_INVALID_ARGUMENT', remedy)
    t.deepEqual(contents(dirname(path)), [])
  })
}

test('each flag of vmclock publish reaches the page', async (t) => {
  const path = newPath(t)
  const words = ['--allow-untrusted-counter', '--generation', 'yes', '--mode', '600']
  // More than the 600 ppm that are allowed for before a rate was measured.
  words.push('--wander', '5000', '--max-error', '5ms', '--tai-minus-utc', '37')
  const running = start([commandLine, 'publish', path, '--json', ...words])
  t.teardown(() => running.child.kill('SIGKILL'))
  await running.line()
  t.is(statSync(path).mode & 0o777, 0o600)
  const { vmGeneration, maxErrorNs, taiMinusUtcSec, raw } = open(t, path).snapshot()
  t.not(vmGeneration, undefined)
  t.true((maxErrorNs ?? 0n) >= 5_000_000n)
  t.not(taiMinusUtcSec, undefined)
  const { counterPeriodFracSec = 0n, counterPeriodMaxerrorRateFracSec = 0n } = raw
  t.true(counterPeriodMaxerrorRateFracSec * 1_000_000n >= counterPeriodFracSec * 5000n)
})

test('setMaintenance refuses an unknown announcement', (t) => {
  const publisher = publish(t, newPath(t), { shape: 'marker' })
  for (const word of ['later', undefined, 1, null]) {
    refuses(
      t,
      () => publisher.setMaintenance(word as 'none'),
      'ERR_VMCLOCK_INVALID_ARGUMENT',
      /'none'.*'soon' or 'imminent'/,
    )
  }
})

test('only create makes a publisher', (t) => {
  const call = (): unknown => new (VmClockPublisher as unknown as new () => unknown)()
  refuses(t, call, 'ERR_VMCLOCK_INVALID_ARGUMENT', /use VmClockPublisher.create/)
})
