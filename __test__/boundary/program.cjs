// Throws values at every public call, and looks at every answer: it is the right one, or an error of this
// package's by a code that the call is documented to have, or what the value itself threw. Started by
// boundary.spec.ts with --expose-gc and
//
//   SEED CASES SLOW_CASES [PATH]
//
// PATH is where fast-check found a failure: it runs that one only. The last line is what was seen.

const { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } = require('node:fs')
const { spawnSync } = require('node:child_process')
const { tmpdir } = require('node:os')
const { join } = require('node:path')
const fc = require('fast-check')
const { VmClock, VmClockError, VmClockPublisher } = require('vmclock')
const { VmClockPage } = require('vmclock/testing')
const { calls, MARK } = require('./calls.cjs')
const { acting, anything, build, MINE, pollution, polluted } = require('./values.cjs')

const [seed, cases, slowCases] = process.argv.slice(2, 5).map(Number)
const path = process.argv[5]

// All of it is collected so often, besides when a value does.
const CASES_A_COLLECTION = 64

const folder = mkdtempSync(join(tmpdir(), 'vmclock-boundary-'))
// Whatever string is taken for a path.
process.chdir(folder)
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
mkdirSync(join(folder, 'folder'))
spawnSync('mkfifo', [join(folder, 'fifo')])
process.env['VMCLOCK_PATH'] = join(folder, 'live')

const marker = VmClockPage.create(join(folder, 'live'), {})
const probe = VmClock.open(join(folder, 'live'))
const fields = {
  counterId: process.arch === 'arm64' ? 0 : 1,
  timeType: 0,
  clockStatus: 2,
  // With a bound of both kinds and a generation.
  flags: 0x150n,
  disruptionMarker: 3n,
  vmGenerationCounter: 2n ** 64n - 1n,
  counterValue: probe.counter(),
  counterPeriodShift: 29,
  counterPeriodFracSec: 9903520314283042199n,
  counterPeriodMaxerrorRateFracSec: 0n,
  timeSec: 1767225600n,
  timeFracSec: 2n ** 63n,
  timeMaxerrorNanosec: 1000n,
}
marker.write(fields)
marker.close()
VmClockPage.create(join(folder, 'scratch'), {}).close()
const publisher = VmClockPublisher.create(join(folder, 'lasting'), {
  shape: 'marker-and-generation',
  allowUntrustedCounter: true,
})

/** What a case has: a clock that it may close, arrays that it may take away. */
function newWorld() {
  const clock = VmClock.open(join(folder, 'live'))
  const closedClock = VmClock.open(join(folder, 'live'))
  closedClock.close()
  const world = {
    folder,
    fields,
    publisher,
    clock,
    closedClock,
    scratch: VmClockPage.open(join(folder, 'scratch')),
    token: clock.continuityToken(),
    reading: clock.read(),
    slots: new BigInt64Array(16).fill(MARK),
    counters: new BigUint64Array([fields.counterValue, fields.counterValue + 1_000_000_000n, 0n]),
    out: new BigInt64Array(5).fill(MARK),
    huge: 1n << 1_000_000n,
    arrays: [],
    awaited: [],
    hasThrown: false,
    counter: () => probe.counter(),
    // What a value does that calls while it is looked at.
    again() {
      const other = { disruptionMarker: 99n, vmGeneration: 1n }
      const inner = [
        () => clock.isContinuous(other),
        () => clock.convert(5n, other),
        () => clock.readInto(new BigInt64Array(12)),
        () => clock.read(),
        () => clock.convertInto(new BigUint64Array(4), new BigInt64Array(4), world.token),
      ]
      for (const call of inner) {
        try {
          call()
        } catch (error) {
          if (!isOurs(error)) throw error
        }
      }
    },
  }
  world.arrays.push(world.slots, world.counters, world.out)
  return world
}

const seen = { cases: 0, right: 0, refused: 0, theirs: 0, codes: {}, calls: {} }

function isOurs(error) {
  return error instanceof VmClockError
}

/** One call, and all that has to be true of it. */
function look({ call: name, given, pollutions }) {
  const { call, right, codes, theirs } = calls[name]
  const world = newWorld()
  try {
    const values = given.map((description) => build(world, description))
    let outcome
    const before = world.counter()
    polluted(world, pollutions, () => {
      try {
        outcome = { result: call(world, values) }
      } catch (error) {
        outcome = { error }
      }
    })
    const after = world.counter()
    seen.calls[name] = (seen.calls[name] ?? 0) + 1
    if ('result' in outcome) {
      right(world, values, outcome.result, before, after)
      seen.right += 1
      return
    }
    const { error } = outcome
    if (error === MINE && world.hasThrown) {
      seen.theirs += 1
    } else if (theirs !== undefined && error instanceof theirs) {
      seen.refused += 1
    } else if (isOurs(error) && codes.includes(error.code)) {
      whole(error)
      untouched(world)
      seen.refused += 1
      seen.codes[error.code] = (seen.codes[error.code] ?? 0) + 1
    } else {
      throw new Error(`${name} threw ${error?.stack ?? String(error)}`, { cause: error })
    }
  } finally {
    world.clock.close()
    world.scratch.close()
    for (const promise of world.awaited) promise.catch(() => {})
  }
}

/** An error's own properties are what it knows; its message is short and says something. */
function whole(error) {
  const { message, path: told, errno, syscall } = error
  const isWhole =
    typeof message === 'string' &&
    message.length > 10 &&
    message.length < 1500 &&
    (told === undefined || typeof told === 'string') &&
    (errno === undefined || (Number.isInteger(errno) && errno > 0)) &&
    (syscall === undefined || typeof syscall === 'string')
  if (!isWhole) throw new Error(`an error that is not whole: ${JSON.stringify(error)} ${message}`)
}

/** Where a call refuses, nothing was written. */
function untouched({ slots, out }) {
  for (const array of [slots, out]) {
    // One that a value took the memory of has no length.
    for (let index = 0; index < array.length; index++) {
      if (array[index] !== MARK) throw new Error('a refused call has written')
    }
  }
}

function property(names) {
  const each = names.map((name) => {
    const { fits = [] } = calls[name]
    const parameters = [0, 1, 2].map((index) =>
      fits[index] === undefined
        ? anything
        : fc.oneof(
            { weight: 2, arbitrary: fc.constantFrom(...fits[index]) },
            { weight: 2, arbitrary: acting(fits[index]) },
            { weight: 3, arbitrary: anything },
          ),
    )
    const arbitrary = fc.record({
      call: fc.constant(name),
      // Now and then fewer than there are parameters, or more.
      given: fc
        .tuple(fc.integer({ min: 0, max: 6 }), ...parameters)
        .map(([count, ...made]) =>
          made.slice(0, Math.max(count > 3 ? fits.length || 1 : count, 0)),
        ),
      pollutions: fc.oneof(
        { weight: 3, arbitrary: fc.constant([]) },
        { weight: 1, arbitrary: fc.array(pollution, { minLength: 1, maxLength: 6 }) },
      ),
    })
    // Most where values are looked at.
    return { weight: fits.length === 0 ? 1 : 4, arbitrary }
  })
  return fc.asyncProperty(fc.oneof(...each), async (one) => {
    if (process.env['VMCLOCK_BOUNDARY_TRACE'] === '1') console.error(fc.stringify(one))
    look(one)
    seen.cases += 1
    if (seen.cases % CASES_A_COLLECTION === 0) {
      globalThis.gc()
      // What was closed in native threads comes to its end.
      await new Promise((resolve) => setImmediate(resolve))
    }
  })
}

async function main() {
  console.log(`seed ${seed}`)
  const [slow, quick] = [true, false].map((isSlow) =>
    Object.keys(calls).filter((name) => (calls[name].isSlow ?? false) === isSlow),
  )
  for (const [names, numRuns] of [
    [quick, cases],
    [slow, slowCases],
  ]) {
    const found = await fc.check(property(names), { seed, numRuns, ...(path && { path }) })
    if (found.failed) {
      const { counterexample, counterexamplePath, errorInstance } = found
      console.log(`${fc.stringify(counterexample)}\n${errorInstance?.stack ?? errorInstance}`)
      console.log(`path ${counterexamplePath}`)
      process.exitCode = 1
      return
    }
  }
  for (const name of Object.keys(calls)) {
    if (cases > 2000 && seen.calls[name] === undefined) throw new Error(`${name} was never called`)
  }
  publisher.close()
  probe.close()
  globalThis.gc()
  await new Promise((resolve) => setImmediate(resolve))
  const threads = readdirSync('/proc/self/task').filter(
    (task) => readFileSync(`/proc/self/task/${task}/comm`, 'utf8') === 'vmclock-watch\n',
  )
  const mapped = readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes(folder))
  console.log(
    JSON.stringify({ ...seen, left: { threads: threads.length, mappings: mapped.length } }),
  )
}

main()
