// A clock with `calls: 'ffi'` gives the same results and the same errors. The names of its C interface cannot be
// misused.
//
// The suite `ffi` runs this, and other specs with VMCLOCK_CALLS=ffi, on a Node that has an FFI.

import { join } from 'node:path'
import { isMainThread } from 'node:worker_threads'
import test, { type ExecutionContext } from 'ava'
import { type HrTime, READING_SLOT_COUNT, VmClock, VmClockError } from 'vmclock'
import type { PageFields } from 'vmclock/testing'
import { hasFfi } from './kinds'
import { evaluate } from './node-command'
import { frozenFields, held, liveFields, newDirectory, open, page, refuses } from './pages'

const UNSUPPORTED = 'ERR_VMCLOCK_UNSUPPORTED'
const WITHOUT_FFI = hasFfi ? ['--no-experimental-ffi'] : []
// V8 calls an FFI function directly once it has compiled its caller.
const UNTIL_COMPILED = 20_000

/** A test that needs an FFI. */
function ffiTest(title: string, body: (t: ExecutionContext) => unknown): void {
  test(title, (t) => {
    if (hasFfi) return body(t)
    t.log(`not shown: Node ${process.versions.node} has no node:ffi`)
    t.pass()
    return undefined
  })
}

/** What a script that opens the page gets: the answer of `expression`, or an error's parts. */
function tried(expression: string): string {
  return `(() => { try { return ${expression} } catch (error) {
    return [error.code, error.message, error.remedy, error.cause?.code]
  } })()`
}

/** Runs a script that has the C interface's functions as `raw`, and `openRaw` for another file's. */
function withRaw<Value>(script: string, args: readonly string[] = []): Promise<Value> {
  return evaluate<Value>(
    `const { dlopen } = require('node:ffi')
    const { readFileSync } = require('node:fs')
    const { VmClock } = require('vmclock')
    const SIGNATURE = { arguments: ['double'], return: 'double' }
    const SYMBOLS = ['now_ns', 'now_ms', 'now_hr_time', 'read', 'counter'].flatMap(
      (call) => ['vmclock_' + call, 'vmclock_unordered_' + call],
    ).concat('vmclock_is_continuous')
    const openRaw = (path) =>
      dlopen(path, Object.fromEntries(SYMBOLS.map((symbol) => [symbol, SIGNATURE]))).functions
    VmClock.isSupported()
    const addon = /\\S+\\/vmclock\\.\\S+\\.node/.exec(readFileSync('/proc/self/maps', 'utf8'))[0]
    const raw = openRaw(addon)
    // The names that the first clock of a process has, one after the other.
    const nameOf = (generation) => 2 ** 52 + generation * 2 ** 16
    ${script}`,
    ['--disable-warning=ExperimentalWarning', ...args],
  )
}

test('the calls go by Node-API by default, and calls says by what', (t) => {
  const { path } = page(t, frozenFields())
  t.is(open(t, path, { calls: 'node-api' }).calls, 'node-api')
  if (process.env['VMCLOCK_CALLS'] === undefined) t.is(open(t, path).calls, 'node-api')
  if (hasFfi) t.is(open(t, path, { calls: 'ffi' }).calls, isMainThread ? 'ffi' : 'node-api')
  refuses(
    t,
    () => VmClock.open(path, { calls: 'fast' as never }),
    'ERR_VMCLOCK_INVALID_ARGUMENT',
    /calls must be 'node-api' or 'ffi'/,
  )
})

test('without an FFI open names the flag, and opens nothing', async (t) => {
  const { path } = page(t, frozenFields())
  const script = (options: string) => `
    const { VmClock } = require('vmclock')
    const mapped = () => require('node:fs').readFileSync('/proc/self/maps', 'utf8').includes(${JSON.stringify(path)})
    const answer = ${tried(`VmClock.open(${JSON.stringify(path)}, ${options}).calls`)}
    console.log(JSON.stringify([answer, mapped()]))`
  const run = (options: string, variable: string) =>
    evaluate<[string | string[], boolean]>(script(options), WITHOUT_FFI, {
      env: { VMCLOCK_CALLS: variable },
    })
  for (const [options, variable] of [
    ["{ calls: 'ffi' }", ''],
    ["{ calls: 'ffi' }", 'node-api'],
    ['{}', 'ffi'],
  ] as const) {
    const [answer, isMapped] = await run(options, variable)
    const [code, message, remedy] = answer
    t.is(code, UNSUPPORTED)
    t.regex(message ?? '', /needs a foreign function interface such as node:ffi/)
    t.regex(remedy ?? '', /--experimental-ffi.*or leave out calls: 'ffi' and.*VMCLOCK_CALLS/)
    t.false(isMapped)
  }
  t.deepEqual(await run("{ calls: 'node-api' }", 'ffi'), ['node-api', true])
  t.deepEqual(await run('{}', ''), ['node-api', true])
})

test('a variable VMCLOCK_CALLS of another value is refused by its name', async (t) => {
  const { path } = page(t, frozenFields())
  const answer = await evaluate<string[]>(
    `const { VmClock } = require('vmclock')
    console.log(JSON.stringify(${tried(`VmClock.open(${JSON.stringify(path)}).calls`)}))`,
    [],
    { env: { VMCLOCK_CALLS: 'fast' } },
  )
  t.is(answer[0], 'ERR_VMCLOCK_INVALID_ARGUMENT')
  t.regex(answer[1] ?? '', /the variable VMCLOCK_CALLS must be 'node-api' or 'ffi'/)
})

test('the system clock of other systems takes the option and makes nothing of it', async (t) => {
  const given = await evaluate<boolean[]>(
    `Object.defineProperty(process, 'platform', { value: 'darwin' })
    const { VmClock } = require('vmclock')
    const clock = VmClock.open({ unsupported: 'system-clock', calls: 'ffi' })
    console.log(JSON.stringify([clock.nowNs() > 0n]))`,
    WITHOUT_FFI,
  )
  t.deepEqual(given, [true])
})

ffiTest('isContinuous reads each figure of a token once, by both ways', (t) => {
  const { path } = page(t, frozenFields())
  for (const calls of ['node-api', 'ffi'] as const) {
    const clock = open(t, path, { calls })
    const { disruptionMarker, vmGeneration } = clock.continuityToken()
    let reads = 0
    const token = {
      get disruptionMarker() {
        reads += 1
        // The second look would find the machine of now.
        return reads === 1 ? disruptionMarker + 1n : disruptionMarker
      },
      vmGeneration,
    }
    t.false(clock.isContinuous(token), calls)
    t.is(reads, 1, calls)
  }
})

ffiTest('under the permission model open names the missing option', async (t) => {
  const { path } = page(t, frozenFields())
  const run = (...args: string[]) =>
    evaluate<string | string[]>(
      `const { VmClock } = require('vmclock')
      console.log(JSON.stringify(${tried(`VmClock.open(${JSON.stringify(path)}, { calls: 'ffi' }).calls`)}))`,
      ['--permission', '--allow-addons', '--allow-fs-read=*', ...args],
    )
  const [code, message, remedy, cause] = await run()
  t.deepEqual([code, cause], [UNSUPPORTED, 'ERR_ACCESS_DENIED'])
  t.regex(message ?? '', /forbidden by Node's permission model/)
  t.regex(remedy ?? '', /--allow-ffi/)
  t.is(await run('--allow-ffi'), 'ffi')
})

ffiTest(
  'every call of every order is one of the C interface, once the page was read',
  async (t) => {
    // From ticks of whole nanoseconds the fast path would leave most counters to the slow path.
    const uneven = { counterPeriodShift: 31, counterPeriodFracSec: 0xd3aa_2c69_8a5c_4b02n }
    const { path } = page(t, { ...liveFields(t), ...uneven })
    const calls = 1000
    const answered = await evaluate<Record<string, number>>(
      `const ffi = require('node:ffi')
    const { dlopen } = ffi
    const answered = {}
    let isCounting = false
    ffi.dlopen = (path, definitions) => ({
      functions: Object.fromEntries(Object.entries(dlopen(path, definitions).functions).map(([symbol, call]) => {
        answered[symbol] = 0
        const counting = (name) => {
          const answer = call(name)
          if (isCounting && answer >= 0) answered[symbol]++
          return answer
        }
        return [symbol, counting]
      })),
    })
    const { VmClock } = require('vmclock')
    const slots = new BigInt64Array(13)
    for (const ordered of [true, false]) {
      const clock = VmClock.open(${JSON.stringify(path)}, { calls: 'ffi', ordered })
      const token = clock.continuityToken()
      clock.read()
      isCounting = true
      for (let call = 0; call < ${calls}; call++) {
        clock.nowNs()
        clock.nowMs()
        clock.nowHrTime()
        clock.read()
        clock.tryRead()
        clock.readInto(slots)
        clock.counter()
        clock.isContinuous(token)
      }
      isCounting = false
    }
    console.log(JSON.stringify(answered))`,
    )
    t.is(Object.keys(answered).length, 11)
    for (const [symbol, count] of Object.entries(answered)) {
      const made = calls * (symbol.endsWith('read') ? 3 : symbol.endsWith('is_continuous') ? 2 : 1)
      t.true(count > 0.9 * made && count <= made, `${symbol}: ${count} of ${made}`)
    }
  },
)

/** The calls that give a time, by name. Each returns what it gave, in nanoseconds where that is possible. */
function stamps(clock: VmClock): Record<string, () => unknown> {
  const slots = new BigInt64Array(READING_SLOT_COUNT)
  const pair: HrTime = [0, 0]
  return {
    nowNs: () => clock.nowNs(),
    nowMs: () => clock.nowMs(),
    nowHrTime: () => clock.nowHrTime(),
    'nowHrTime with an array': () => [...clock.nowHrTime(pair)],
    nowDate: () => clock.nowDate(),
    read: () => ({ ...clock.read(), counter: 0n }),
    tryRead: () => {
      const reading = clock.tryRead()
      if (VmClockError.isVmClockError(reading)) throw reading
      return { ...reading, counter: 0n }
    },
    readInto: () => {
      clock.readInto(slots)
      return slots.with(5, 0n)
    },
  }
}

/** What a call gives or throws. */
function outcome(call: () => unknown): unknown {
  try {
    return call()
  } catch (error) {
    if (!VmClockError.isVmClockError(error)) throw error
    const { code, message, remedy, path } = error
    return { code, message, remedy, path }
  }
}

const BROKEN: Readonly<Record<string, PageFields>> = {
  unsynchronized: { clockStatus: 1 },
  'of another counter': { counterId: 200 },
  'of an unusable period': { counterPeriodShift: 128 },
  'out of range': { timeSec: 2n ** 62n },
  'of a time before 1970': { timeSec: 0n, timeFracSec: 0n, counterValue: 0n },
}

for (const ordered of [true, false]) {
  const order = ordered ? 'ordered' : 'unordered'

  ffiTest(`an ${order} clock gives the results and errors of Node-API, compiled or not`, (t) => {
    const fields = { ...frozenFields(), timeFracSec: 2n ** 33n }
    const made = page(t, fields)
    const [byFfi, byNodeApi] = (['ffi', 'node-api'] as const).map((calls) =>
      stamps(open(t, made.path, { calls, ordered })),
    ) as [Record<string, () => unknown>, Record<string, () => unknown>]
    const compare = (state: string) => {
      for (const [name, call] of Object.entries(byFfi)) {
        const expected = outcome(byNodeApi[name] as () => unknown)
        t.deepEqual(outcome(call), expected, `${name} of a page ${state}`)
        t.deepEqual(outcome(call), expected, `${name} of a page ${state}, again`)
      }
    }
    for (const state of ['not compiled', 'compiled']) {
      compare(state)
      for (const [name, changed] of Object.entries(BROKEN)) {
        made.write({ ...fields, ...changed })
        compare(`${name}, ${state}`)
      }
      made.write(fields)
      compare(`mended, ${state}`)
      for (const call of Object.values(byFfi)) {
        for (let count = 0; count < UNTIL_COMPILED; count++) call()
      }
    }
  })

  ffiTest(`an ${order} clock notices at once that it was closed, or its page changed`, (t) => {
    const made = page(t, { ...liveFields(t), counterPeriodShift: 31 })
    const clock = open(t, made.path, { calls: 'ffi', ordered })
    const token = clock.continuityToken()
    let continuous = 0
    for (let count = 0; count < UNTIL_COMPILED; count++) {
      clock.nowNs()
      if (clock.isContinuous(token)) continuous++
    }
    t.is(continuous, UNTIL_COMPILED)
    const first = clock.counter()
    made.write({ disruptionMarker: 1n })
    t.false(clock.isContinuous(token))
    t.true(clock.isContinuous(clock.continuityToken()))
    t.false(clock.isContinuous(token))
    // A conversion and another token use the same memory.
    const second = clock.continuityToken()
    t.throws(() => clock.convert(first, token), { code: 'ERR_VMCLOCK_DISRUPTED' })
    t.true(clock.isContinuous(second))
    t.true(clock.isContinuous({ ...second }))
    t.false(clock.isContinuous({ ...second, disruptionMarker: 0n }))
    t.true(clock.isContinuous(second))
    clock.close()
    for (const [name, call] of Object.entries({
      ...stamps(clock),
      counter: () => clock.counter(),
      isContinuous: () => clock.isContinuous(second),
    })) {
      t.throws(call, { instanceOf: VmClockError, code: 'ERR_VMCLOCK_CLOSED' }, name)
    }
    t.deepEqual(held(made.path).length, 1)
  })
}

ffiTest('a stamp by FFI lies between two by Node-API', (t) => {
  const { path } = page(t, liveFields(t))
  const [byFfi, byNodeApi] = [open(t, path, { calls: 'ffi' }), open(t, path, { calls: 'node-api' })]
  const outside: bigint[][] = []
  for (let stamp = 0; stamp < 100_000; stamp++) {
    const before = byNodeApi.nowNs()
    const ns = byFfi.nowNs()
    const after = byNodeApi.nowNs()
    if (ns < before || ns > after) outside.push([before, ns, after])
  }
  t.deepEqual(outside.slice(0, 5), [])
})

ffiTest('a clock by FFI prints as a VmClock and shows none of its slots', (t) => {
  const clock = open(t, page(t, liveFields(t)).path, { calls: 'ffi' })
  t.true(clock instanceof VmClock)
  t.is(clock.constructor, VmClock)
  t.deepEqual(Reflect.ownKeys(clock), [])
  for (const method of ['nowNs', 'nowMs', 'nowHrTime', 'read', 'tryRead', 'readInto'] as const) {
    const call = clock[method] as () => unknown
    refuses(t, () => call(), 'ERR_VMCLOCK_INVALID_ARGUMENT', RegExp(`${method} was called without`))
  }
})

ffiTest('a name that no clock has answers NaN, for any double', async (t) => {
  const { path } = page(t, liveFields(t))
  const seen = await withRaw<[boolean, string[], boolean]>(
    `const clock = VmClock.open(${JSON.stringify(path)}, { calls: 'ffi' })
    clock.read()
    const name = nameOf(1)
    const bits = new BigUint64Array(1)
    const double = new Float64Array(bits.buffer)
    const forged = [0, -0, 1, -1, 0.5, NaN, Infinity, -Infinity, 5e-324, -5e-324, Number.MAX_VALUE,
      -Number.MAX_VALUE, 2 ** 31, 2 ** 32, 2 ** 52, 2 ** 53 - 1, 2 ** 53, 2 ** 63, 2 ** 64, -name, name + 2 ** 16]
    for (let bit = 0n; bit < 64n; bit++) {
      double[0] = name
      bits[0] ^= 1n << bit
      forged.push(double[0])
    }
    // Random bits: one name in 2^64 is the right one.
    for (let count = 0; count < 1e5; count++) {
      crypto.getRandomValues(bits)
      forged.push(double[0])
    }
    const answered = SYMBOLS.filter((symbol) => forged.some((other) => !Number.isNaN(raw[symbol](other))))
    console.log(JSON.stringify([raw.vmclock_counter(name) >= 0, answered, clock.nowNs() > 0n]))`,
  )
  t.deepEqual(seen, [true, [], true])
})

ffiTest(
  'in a worker a name of the main thread answers NaN, and clocks go by Node-API',
  async (t) => {
    const { path } = page(t, liveFields(t))
    const seen = await withRaw<[boolean, boolean, string, boolean, boolean]>(
      `const { Worker } = require('node:worker_threads')
    const clock = VmClock.open(${JSON.stringify(path)}, { calls: 'ffi' })
    const here = raw.vmclock_counter(nameOf(1)) >= 0
    const worker = new Worker(\`
      const { parentPort, workerData } = require('node:worker_threads')
      const { VmClock } = require('vmclock')
      const { functions } = require('node:ffi').dlopen(workerData.addon, {
        vmclock_counter: { arguments: ['double'], return: 'double' },
      })
      const foreign = functions.vmclock_counter(workerData.name)
      const clock = VmClock.open(workerData.path, { calls: 'ffi' })
      parentPort.postMessage([Number.isNaN(foreign), clock.calls, clock.nowNs() > 0n])
    \`, { eval: true, workerData: { addon, name: nameOf(1), path: ${JSON.stringify(path)} } })
    let there
    worker.once('message', (message) => { there = message })
    worker.once('exit', () => console.log(JSON.stringify([here, ...there, clock.nowNs() > 0n])))`,
    )
    t.deepEqual(seen, [true, true, 'node-api', true, true])
  },
)

ffiTest('the name of a collected clock answers NaN, and is never given again', async (t) => {
  const { path } = page(t, liveFields(t))
  const seen = await withRaw<boolean[]>(
    `const isAnswered = (generation) => raw.vmclock_counter(nameOf(generation)) >= 0
    const drop = () => VmClock.open(${JSON.stringify(path)}, { calls: 'ffi' }).nowNs() > 0n
    const seen = [drop(), isAnswered(1)]
    let turns = 0
    function turn() {
      gc()
      if (isAnswered(1) && ++turns < 1000) return setImmediate(turn)
      seen.push(isAnswered(1))
      const clock = VmClock.open(${JSON.stringify(path)}, { calls: 'ffi' })
      seen.push(isAnswered(1), isAnswered(2))
      clock.close()
      seen.push(isAnswered(2))
      console.log(JSON.stringify(seen))
    }
    turn()`,
    ['--expose-gc'],
  )
  t.deepEqual(seen, [true, true, false, false, true, false])
})

ffiTest(
  'a hundred thousand opens and closes use one name after the other, and leave nothing',
  async (t) => {
    const { path } = page(t, liveFields(t))
    const seen = await withRaw<[boolean, number, number[], number[]]>(
      `const { readdirSync } = require('node:fs')
    const figures = () => [
      readdirSync('/proc/self/fd').length,
      readFileSync('/proc/self/maps', 'utf8').split(${JSON.stringify(path)}).length - 1,
    ]
    const before = figures()
    let grewBytes
    let done = 0
    function turn() {
      for (let count = 0; count < 1000; count++) {
        const clock = VmClock.open(${JSON.stringify(path)}, { calls: 'ffi' })
        clock.nowNs()
        clock.close()
      }
      done += 1000
      if (done % 1e4 === 0) gc()
      // The first fifth fills the heaps.
      if (done === 2e4) grewBytes = -process.memoryUsage.rss()
      if (done < 1e5) return setImmediate(turn)
      grewBytes += process.memoryUsage.rss()
      const clock = VmClock.open(${JSON.stringify(path)}, { calls: 'ffi' })
      const isNext = raw.vmclock_counter(nameOf(1e5 + 1)) >= 0
      clock.close()
      console.log(JSON.stringify([isNext, grewBytes, before, figures()]))
    }
    turn()`,
      ['--expose-gc'],
    )
    const [isNext, grewBytes, before, after] = seen
    t.true(isNext)
    t.deepEqual(after, before)
    t.log(`grew by ${grewBytes / 1024} KiB`)
    t.true(grewBytes < 20 * 2 ** 20)
  },
)

ffiTest('the FFI opens the addon that is loaded, and a copy of it knows no clock', async (t) => {
  const { path } = page(t, liveFields(t))
  const directory = newDirectory(t)
  const [copy, symlink] = ['copy', 'symlink'].map((name) => join(directory, name))
  const seen = await withRaw<Record<string, boolean>>(
    `const { copyFileSync, symlinkSync } = require('node:fs')
    copyFileSync(addon, ${JSON.stringify(copy)})
    symlinkSync(addon, ${JSON.stringify(symlink)})
    const clock = VmClock.open(${JSON.stringify(path)}, { calls: 'ffi' })
    const [copied, linked] = [openRaw(${JSON.stringify(copy)}), openRaw(${JSON.stringify(symlink)})]
    console.log(JSON.stringify({
      path: require(addon).addonPath() === addon,
      linkIsSame: linked.vmclock_now_ns.pointer === raw.vmclock_now_ns.pointer,
      copyIsOther: copied.vmclock_now_ns.pointer !== raw.vmclock_now_ns.pointer,
      answers: raw.vmclock_counter(nameOf(1)) >= 0 && linked.vmclock_counter(nameOf(1)) >= 0,
      copyAnswersNothing: SYMBOLS.every((symbol) => Number.isNaN(copied[symbol](nameOf(1)))),
    }))`,
  )
  for (const [name, holds] of Object.entries(seen)) t.true(holds, name)
  t.is(Object.keys(seen).length, 5)
})

ffiTest('an addon that was replaced since it was loaded is refused', async (t) => {
  const { path } = page(t, liveFields(t))
  const answer = await withRaw<string[]>(
    `const ffi = require('node:ffi')
    const { copyFileSync } = require('node:fs')
    const copy = ${JSON.stringify(join(newDirectory(t), 'copy'))}
    copyFileSync(addon, copy)
    // As a loader does that opens the file of this name anew.
    ffi.dlopen = (_path, definitions) => dlopen(copy, definitions)
    console.log(JSON.stringify(${tried(`VmClock.open(${JSON.stringify(path)}, { calls: 'ffi' }).calls`)}))`,
  )
  t.is(answer[0], UNSUPPORTED)
  t.regex(answer[1] ?? '', /finds another addon/)
})

ffiTest('an addon is refused if another copy took its functions and its names', async (t) => {
  const { path } = page(t, liveFields(t))
  const directory = newDirectory(t)
  const [ofGlobal, ofLocal] = await withRaw<[string, string[]]>(
    `const { RTLD_NOW, RTLD_GLOBAL } = require('node:os').constants.dlopen
    const load = (name, flags) => {
      const file = ${JSON.stringify(directory)} + '/' + name + '.node'
      require('node:fs').copyFileSync(addon, file)
      process.dlopen({ exports: {} }, file, flags)
      process.env.VMCLOCK_ADDON = file
      for (const key of Object.keys(require.cache)) delete require.cache[key]
      const { VmClock } = require('vmclock')
      return ${tried(`VmClock.open(${JSON.stringify(path)}, { calls: 'ffi' }).calls`)}
    }
    // The first clocks of both copies have the same name.
    console.log(JSON.stringify([load('global', RTLD_NOW | RTLD_GLOBAL), load('local', RTLD_NOW)]))`,
  )
  t.is(ofGlobal, 'ffi')
  t.is(ofLocal[0], UNSUPPORTED)
  t.regex(ofLocal[1] ?? '', /finds another addon/)
})
