const { START_MS, tests } = require('./scenario.cjs')

const fake = {
  advance: (ms) => jest.advanceTimersByTimeAsync(ms),
  timers: () => jest.getTimerCount(),
}

beforeEach(() => {
  jest.useFakeTimers({ now: START_MS })
})
afterEach(() => {
  jest.useRealTimers()
})
for (const [name, scenario] of Object.entries(tests)) test(name, () => scenario(fake))
