// Puts a page under load: the host rewrites it as long as a program in the guest runs.

import { setTimeout } from 'node:timers/promises'

const QUESTIONS = 60

// Leaves the page unchanged for some ten readings.
const PAUSE_MS = 2

/**
 * Returns a function that gives bounds on the guest's counter now, as `{ least, most }`. It asks the guest
 * only at the start: after that it computes the bounds from the host's counter, which has the same rate.
 */
export async function counterBounds(guest) {
  const { ticksNow } = guest
  let [least, most] = [-(1n << 64n), 1n << 64n]
  await guest.converse('calibration.mjs', [], async (ask) => {
    for (let question = 0; question < QUESTIONS; question++) {
      const before = ticksNow()
      const counter = BigInt(await ask())
      const after = ticksNow()
      if (counter - after > least) least = counter - after
      if (counter - before < most) most = counter - before
    }
  })
  return () => {
    const ticks = ticksNow()
    return { least: ticks + least, most: ticks + most }
  }
}

/**
 * Writes hundreds of pages a second while `work` runs, and returns its result and the number of updates.
 *
 * `fields` returns the fields of the next page. It is called within the update, when no reader can start to
 * read the old page. It can also return `stayMs`, the time to stay in the update, and `atOnce`, pages that
 * follow immediately, so that some updates happen in the middle of a reading.
 */
export async function withUpdates(page, fields, work) {
  let isOver = false
  const worked = async () => {
    try {
      return await work()
    } finally {
      isOver = true
    }
  }
  const written = async () => {
    let updates = 0
    while (!isOver) {
      updates += update(page, fields)
      await setTimeout(PAUSE_MS)
    }
    return updates
  }
  // Waits for both even if one fails, because no other test may use the guest before.
  const outcomes = await Promise.allSettled([worked(), written()])
  const [result, updates] = outcomes.map(({ value }) => value)
  for (const { status, reason } of outcomes) if (status === 'rejected') throw reason
  return { result, updates }
}

/** Makes one update with all that follows it, and returns the number of pages. */
function update(page, fields) {
  let following = []
  page.begin()
  try {
    const { stayMs = 0, atOnce = [], ...changed } = fields()
    following = atOnce
    page.writeUnguarded(changed)
    // Like a writer that loses its CPU.
    if (stayMs > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, stayMs)
  } finally {
    page.end()
  }
  for (const other of following) page.write(other)
  return 1 + following.length
}
