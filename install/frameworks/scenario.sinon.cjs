// A program and no test of node:test, whose runner needs what sinon replaces.

const { START_MS, tests } = require('./scenario.cjs')
const sinon = require(process.env.VMCLOCK_SINON)

async function main() {
  for (const [name, scenario] of Object.entries(tests)) {
    const clock = sinon.useFakeTimers({ now: START_MS })
    try {
      await scenario({
        advance: (ms) => clock.tickAsync(ms),
        timers: () => clock.countTimers(),
      })
    } catch (error) {
      throw new Error(name, { cause: error })
    } finally {
      clock.restore()
    }
  }
}

// The event loop ends early if a promise is never settled.
process.exitCode = 1
main().then(() => {
  process.exitCode = 0
})
