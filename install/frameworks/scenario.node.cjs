const { afterEach, beforeEach, mock, test } = require('node:test')
const { START_MS, tests } = require('./scenario.cjs')

// node:test does not count its timers, so the fake setTimeout is counted here.
let pending
const fake = {
  advance: async (ms) => {
    // Timers that are started meanwhile are due later than they would be in one step.
    for (let passed = 0; passed < ms; passed++) {
      mock.timers.tick(1)
      await Promise.resolve()
    }
  },
  timers: () => pending.size,
}

beforeEach(() => {
  mock.timers.enable({ apis: ['Date', 'setTimeout', 'setInterval', 'setImmediate'], now: START_MS })
  pending = new Set()
  const { clearTimeout, setTimeout } = globalThis
  globalThis.setTimeout = (callback, ms) => {
    const timer = setTimeout(() => {
      pending.delete(timer)
      callback()
    }, ms)
    pending.add(timer)
    return timer
  }
  globalThis.clearTimeout = (timer) => {
    pending.delete(timer)
    clearTimeout(timer)
  }
})
afterEach(() => mock.timers.reset())
for (const [name, scenario] of Object.entries(tests)) test(name, () => scenario(fake))
