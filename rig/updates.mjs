// Pages under load: the host writes one after another for as long as a guest's program runs.

import { setTimeout } from 'node:timers/promises'

const QUESTIONS = 60

// So that the page is still for most of the time, as any provider's: time for some ten readings.
const PAUSE_MS = 2

/**
 * Where the guest's counter is now, by the host's: `{ least, most }` surely hold it. Found out once by
 * asking the guest, and then known without asking, as the two run at the same rate.
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
 * Writes pages while `work` is under way, hundreds a second, and gives what `work` gives. Each page is
 * what `fields` makes of the one before it; it is called within the update, when nobody can begin to read
 * by the old page any more, and gives with the fields how long to stay there, and which pages follow at
 * once, so that some are met in the middle of a reading.
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
  // Both are waited for, whichever fails: nobody else may use the guest before.
  const outcomes = await Promise.allSettled([worked(), written()])
  const [result, updates] = outcomes.map(({ value }) => value)
  for (const { status, reason } of outcomes) if (status === 'rejected') throw reason
  return { result, updates }
}

/** How many pages that made. */
function update(page, fields) {
  let following = []
  page.begin()
  try {
    const { stayMs = 0, atOnce = [], ...changed } = fields()
    following = atOnce
    page.writeUnguarded(changed)
    // Without its CPU, as a writer can be at any moment.
    if (stayMs > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, stayMs)
  } finally {
    page.end()
  }
  for (const other of following) page.write(other)
  return 1 + following.length
}
