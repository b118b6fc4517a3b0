// Reads a page many times and checks each reading. A worker, and a function for other programs.

const { isMainThread, parentPort, workerData } = require('node:worker_threads')
const { VmClock, VmClockError } = require('vmclock')
const { isWhole } = require('./page.cjs')

// How many readings follow one another without a pause in a reader that strays.
const READS_AT_ONCE = 16

/**
 * Reads `count` times, and longer until it has seen `leastStates` states. A reader that reads again as soon
 * as an update is over would never meet the next update in the middle of a read. A reader that `strays`
 * pauses now and then for a random time. One that is not `ordered` reads the counter without a fence.
 */
function read({ path, count, leastStates, strays = false, ordered = true }) {
  const clock = VmClock.open(path, { ordered })
  const slots = new BigInt64Array(13)
  const torn = []
  let timeouts = 0
  let states = 0
  let last = -1n
  let readings = 0
  let random = 1
  for (; readings < count || states < leastStates; readings++) {
    if (strays && readings % READS_AT_ONCE === 0) {
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
