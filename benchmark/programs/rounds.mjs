// Times calls in rounds, each of which measures every call once. A longer disturbance affects a whole round,
// and so hardly the ratio of two calls in it. Each round has a random order, because a call is a little slower
// after one that evicts its memory from the cache.

// A round of a call is long enough to make its two clock readings negligible, and short enough that an
// interrupt hits few rounds.
const CALLS_AT_ONCE = 500
const CALLS_A_BATCH = 5000
const LEAST_BATCHES = 10
// The most calls of the least number of batches. A million conversions need one batch only.
const MOST_CALLS = 100_000

// V8 compiles a loop with inlined calls after its function was called often enough. Before that each call
// costs several nanoseconds more, by different amounts for vmclock and the built-ins. V8 compiles a long loop
// while it runs, and that code may stay in use, so many short runs come first.
const WARM_UP_CALLS_AT_ONCE = 10
const WARM_UP_CALLS = 1_000_000
const WARM_UP_ROUNDS = 100

/**
 * Returns nanoseconds a call, a figure for each round, by the name of the case.
 *
 * @param cases - maps a name to a call, as the text of an expression, or to
 * `{ call, times, atOnce, most, warm, before }`. `times` is how often the call does its work, `atOnce` the calls of a
 * batch, `most` the largest number of batches, and `warm` the number of calls that warm it up. `before` is called
 * before each round of the case, and not timed. The expression can use `i`, which counts the calls
 * @param scope - the variables that the expressions can use
 */
export function measure(cases, scope, rounds) {
  const round = prepare(cases, scope)
  return merged(Array.from({ length: rounds }, round))
}

// Warms the cases up, and returns a function that makes one round: nanoseconds by name.
function prepare(cases, scope) {
  const timed = Object.entries(cases).map(([name, given]) => {
    const {
      call,
      times = 1,
      atOnce = CALLS_AT_ONCE,
      most = Infinity,
      warm = WARM_UP_CALLS,
      before = () => {},
    } = typeof given === 'string' ? { call: given } : given
    const calls = Math.max(1, Math.floor(atOnce / times))
    const least = Math.min(LEAST_BATCHES, Math.ceil(MOST_CALLS / (calls * times)))
    const batches = Math.min(most, Math.max(least, Math.floor(CALLS_A_BATCH / (calls * times))))
    return { name, run: loop(call, scope), calls, batches, times, warm, before }
  })
  for (const { run, times, warm, before } of timed) {
    before()
    const runs = Math.ceil(warm / (WARM_UP_CALLS_AT_ONCE * times))
    for (let count = 0; count < runs; count++) run(WARM_UP_CALLS_AT_ONCE)
  }
  const round = () => {
    const figures = {}
    for (const { name, run, calls, batches, times, before } of shuffled(timed)) {
      before()
      const start = process.hrtime.bigint()
      for (let batch = 0; batch < batches; batch++) run(calls)
      const tookNs = Number(process.hrtime.bigint() - start)
      figures[name] = tookNs / (batches * calls * times)
    }
    return figures
  }
  for (let warm = 0; warm < WARM_UP_ROUNDS; warm++) round()
  return round
}

// Returns the figures of many rounds as one list for each name.
function merged(rounds) {
  const names = Object.keys(rounds[0])
  return Object.fromEntries(names.map((name) => [name, rounds.map((figures) => figures[name])]))
}

function shuffled(cases) {
  return cases
    .map((one) => ({ one, place: Math.random() }))
    .sort((a, b) => a.place - b.place)
    .map(({ one }) => one)
}

// Makes a function for each case, because V8 optimizes a loop for the calls that it has seen. The result goes
// into a variable of one type, as in most programs: for a variable of mixed types V8 puts each double into an
// object.
function loop(call, scope) {
  const names = Object.keys(scope)
  const make = new Function(
    ...names,
    `return function (calls) { let i = 0; let result = ${call}; for (i = 1; i < calls; i++) result = ${call}; return result }`,
  )
  return make(...names.map((name) => scope[name]))
}
