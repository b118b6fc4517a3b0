// Passes random values to every public call and checks every answer. An answer is the right result, an error
// of the package with a code that the call documents, or the exception that the value itself threw.
// boundary.spec.ts starts it with --expose-gc and
//
//   SEED CASES SLOW_CASES [PATH]
//
// With PATH, which fast-check prints for a failure, it runs only that case. The last line that it prints is
// JSON: the counts of what happened.

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

// A full garbage collection runs after so many cases, besides those that a value runs.
const CASES_PER_COLLECTION = 64

const directory = mkdtempSync(join(tmpdir(), 'vmclock-boundary-'))
// Any string can be taken for a path, so relative ones must lead into the test's own directory.
process.chdir(directory)
process.on('exit', () => rmSync(directory, { recursive: true, force: true }))
mkdirSync(join(directory, 'directory'))
spawnSync('mkfifo', [join(directory, 'fifo')])
process.env['VMCLOCK_PATH'] = join(directory, 'live')

const marker = VmClockPage.create(join(directory, 'live'), {})
const probe = VmClock.open(join(directory, 'live'))
const fields = {
  counterId: process.arch === 'arm64' ? 0 : 1,
  timeType: 0,
  clockStatus: 2,
  // Both parts of the bound are valid, and there is a generation counter.
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
VmClockPage.create(join(directory, 'scratch'), {}).close()
const publisher = VmClockPublisher.create(join(directory, 'lasting'), {
  shape: 'marker-and-generation',
  allowUntrustedCounter: true,
})

/** Makes the objects of one case: a clock that it may close, arrays whose memory it may take away. */
function newWorld() {
  const clock = VmClock.open(join(directory, 'live'))
  const closedClock = VmClock.open(join(directory, 'live'))
  closedClock.close()
  const world = {
    directory,
    fields,
    publisher,
    clock,
    closedClock,
    scratch: VmClockPage.open(join(directory, 'scratch')),
    token: clock.continuityToken(),
    reading: clock.read(),
    slots: new BigInt64Array(16).fill(MARK),
    pair: [-77, -77],
    counters: new BigUint64Array([fields.counterValue, fields.counterValue + 1_000_000_000n, 0n]),
    out: new BigInt64Array(5).fill(MARK),
    huge: 1n << 1_000_000n,
    arrays: [],
    awaited: [],
    hasThrown: false,
    counter: () => probe.counter(),
    // Calls the package again while the package looks at a value.
    again() {
      const other = { disruptionMarker: 99n, vmGeneration: 1n }
      const inner = [
        () => clock.isContinuous(other),
        () => clock.convert(5n, other),
        () => clock.readInto(new BigInt64Array(13)),
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

const counts = { cases: 0, right: 0, refused: 0, theirs: 0, codes: {}, calls: {} }

function isOurs(error) {
  return error instanceof VmClockError
}

/** Makes one call and checks its answer. */
function check({ call: name, given, pollutions }) {
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
    counts.calls[name] = (counts.calls[name] ?? 0) + 1
    if ('result' in outcome) {
      right(world, values, outcome.result, before, after)
      counts.right += 1
      return
    }
    const { error } = outcome
    if (error === MINE && world.hasThrown) {
      counts.theirs += 1
    } else if (theirs !== undefined && error instanceof theirs) {
      counts.refused += 1
    } else if (isOurs(error) && codes.includes(error.code)) {
      checkError(error)
      checkUntouched(world)
      counts.refused += 1
      counts.codes[error.code] = (counts.codes[error.code] ?? 0) + 1
    } else {
      throw new Error(`${name} threw ${error?.stack ?? String(error)}`, { cause: error })
    }
  } finally {
    world.clock.close()
    world.scratch.close()
    for (const promise of world.awaited) promise.catch(() => {})
  }
}

/** Checks that an error has a message of sensible length and properties of the right types. */
function checkError(error) {
  const { message, remedy, path: erroneous, errno, syscall } = error
  const isWhole =
    typeof message === 'string' &&
    message.length > 10 &&
    message.length < 1500 &&
    (remedy === undefined || (typeof remedy === 'string' && remedy.length > 5)) &&
    (erroneous === undefined || typeof erroneous === 'string') &&
    (errno === undefined || (Number.isInteger(errno) && errno > 0)) &&
    (syscall === undefined || typeof syscall === 'string')
  if (!isWhole)
    throw new Error(`an error with wrong properties: ${JSON.stringify(error)} ${message}`)
}

/** Checks that a refused call has written nothing. */
function checkUntouched({ slots, out }) {
  for (const array of [slots, out]) {
    // An array whose memory a value took away has length 0.
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
      // Some calls get fewer arguments than there are parameters, some more.
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
    // Calls that take arguments are tested more often.
    return { weight: fits.length === 0 ? 1 : 4, arbitrary }
  })
  return fc.asyncProperty(fc.oneof(...each), async (one) => {
    if (process.env['VMCLOCK_BOUNDARY_TRACE'] === '1') console.error(fc.stringify(one))
    check(one)
    counts.cases += 1
    if (counts.cases % CASES_PER_COLLECTION === 0) {
      globalThis.gc()
      // Lets the native threads of closed watchers end.
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
    if (cases > 2000 && counts.calls[name] === undefined)
      throw new Error(`${name} was never called`)
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
    .filter((line) => line.includes(directory))
  console.log(
    JSON.stringify({ ...counts, left: { threads: threads.length, mappings: mapped.length } }),
  )
}

main()
