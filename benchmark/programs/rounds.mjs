// How calls are timed: in rounds, each of which measures every call once. What disturbs the machine
// for longer than a moment disturbs all of a round, and so hardly the ratio of two calls within it. Each
// round has an order of its own: a call is a little slower after one that left memory for it to fetch.

// Long enough that the two looks at the clock around a batch are nothing, short enough that most
// batches are not interrupted.
const CALLS_AT_ONCE = 500
const CALLS_A_BATCH = 5000
const LEAST_BATCHES = 10
// What so many batches may come to at most: a million conversions are long enough once.
const MOST_CALLS = 100_000

// V8 compiles a loop anew, with what it calls inside, once its function was called often enough; until
// then a call from it costs several nanoseconds more, ours and the built-ins by different amounts. A loop
// that runs long before that is compiled while it runs, and may stay as it then is: short runs come first.
const WARM_UP_CALLS_AT_ONCE = 10
const WARM_UP_CALLS = 1_000_000
const WARM_UP_ROUNDS = 100

/**
 * Nanoseconds a call, a figure a round, by the name of the case.
 *
 * @param cases - name → the call, as the text of an expression, or `{ call, times, most }` for one
 * that does its work so many times by itself, or takes so long that so many batches are enough; the
 * expression may name `i`, which counts the calls
 * @param scope - what the expressions may name
 */
export function measure(cases, scope, rounds) {
  const timed = Object.entries(cases).map(([name, given]) => {
    const { call, times = 1, most = Infinity } = typeof given === 'string' ? { call: given } : given
    const calls = Math.max(1, Math.floor(CALLS_AT_ONCE / times))
    const least = Math.min(LEAST_BATCHES, Math.ceil(MOST_CALLS / (calls * times)))
    const batches = Math.min(most, Math.max(least, Math.floor(CALLS_A_BATCH / (calls * times))))
    return { name, run: loop(call, scope), calls, batches, times, figures: [] }
  })
  for (const { run, times } of timed) {
    const runs = Math.ceil(WARM_UP_CALLS / (WARM_UP_CALLS_AT_ONCE * times))
    for (let warm = 0; warm < runs; warm++) run(WARM_UP_CALLS_AT_ONCE)
  }
  for (let round = -WARM_UP_ROUNDS; round < rounds; round++) {
    for (const { run, calls, batches, times, figures } of shuffled(timed)) {
      const start = process.hrtime.bigint()
      for (let batch = 0; batch < batches; batch++) run(calls)
      const tookNs = Number(process.hrtime.bigint() - start)
      if (round >= 0) figures.push(tookNs / (batches * calls * times))
    }
  }
  return Object.fromEntries(timed.map(({ name, figures }) => [name, figures]))
}

function shuffled(cases) {
  return cases
    .map((one) => ({ one, place: Math.random() }))
    .sort((a, b) => a.place - b.place)
    .map(({ one }) => one)
}

// A function of its own for each case: V8 learns what a loop calls, and one loop for all would learn
// that it calls anything. What a call gives is kept in a variable that never holds anything else, as in
// most programs: one that did would make V8 put every double into an object.
function loop(call, scope) {
  const names = Object.keys(scope)
  const make = new Function(
    ...names,
    `return function (calls) { let i = 0; let result = ${call}; for (i = 1; i < calls; i++) result = ${call}; return result }`,
  )
  return make(...names.map((name) => scope[name]))
}
