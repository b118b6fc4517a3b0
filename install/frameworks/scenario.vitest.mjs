import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)
const { afterEach, beforeEach, test, vi } = await import(process.env.VMCLOCK_VITEST)
const { START_MS, tests } = require('./scenario.cjs')

const fake = {
  advance: (ms) => vi.advanceTimersByTimeAsync(ms),
  timers: () => vi.getTimerCount(),
}

beforeEach(() => {
  vi.useFakeTimers({ now: START_MS })
})
afterEach(() => {
  vi.useRealTimers()
})
for (const [name, scenario] of Object.entries(tests)) test(name, () => scenario(fake))
