// Reads a page many times and checks each reading; a worker, or a function for whoever requires it.

const { isMainThread, parentPort, workerData } = require('node:worker_threads')
const { VmClock, VmClockError } = require('vmclock')
const { isWhole } = require('./page.cjs')

// So many readings one after the other of a reader that strays.
const LOOKS = 16

/**
 * What became of `count` readings, and of as many more as it takes to see `leastStates` states. One that
 * looks again as soon as an update is over never meets the next one in the middle of its look: a reader that
 * `strays` does something else now and then, for as long as it pleases.
 */
function read({ path, count, leastStates, strays = false }) {
  const clock = VmClock.open(path)
  const slots = new BigInt64Array(12)
  const torn = []
  let timeouts = 0
  let states = 0
  let last = -1n
  let readings = 0
  let random = 1
  for (; readings < count || states < leastStates; readings++) {
    if (strays && readings % LOOKS === 0) {
      random = (Math.imul(random, 1_103_515_245) + 12_345) & 0x7fff_ffff
      for (let left = random >> 20; left > 0; left--);
    }
    try {
      clock.readInto(slots)
    } catch (error) {
      if (!VmClockError.isVmClockError(error) || error.code !== 'ERR_VMCLOCK_TIMEOUT') throw error
      timeouts++
      continue
    }
    if (!isWhole(slots) && torn.length < 5) torn.push([...slots].map(String))
    if (slots[6] !== last) states++
    last = slots[6]
  }
  clock.close()
  return { readings, timeouts, torn, states }
}

if (!isMainThread && workerData?.path !== undefined) parentPort.postMessage(read(workerData))

module.exports = { read }
