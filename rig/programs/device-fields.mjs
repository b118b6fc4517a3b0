// Checks that the driver's mmap and its `read` give the same fields at the same sequence number, while the host
// rewrites the page.

import assert from 'node:assert/strict'
import { closeSync, openSync, readSync } from 'node:fs'
import { VmClock } from 'vmclock'
import { fieldsOf, STRUCTURE_BYTES } from './page-fields.mjs'

const DEVICE = '/dev/vmclock0'
const MAGIC = 0x4b4c4356
const MOST_MS = 40_000

const [fewestComparisons, fewestUpdates] = process.argv.slice(2).map(Number)

const device = openSync(DEVICE, 'r')
const clock = VmClock.open(DEVICE)
const bytes = Buffer.alloc(STRUCTURE_BYTES)
const updates = new Set()
let comparisons = 0
let looks = 0

const startMs = performance.now()
while (comparisons < fewestComparisons || updates.size < fewestUpdates) {
  assert.ok(performance.now() - startMs < MOST_MS, `${comparisons} comparisons, ${looks} looks`)
  looks += 1
  const raw = unlessTimeout(() => clock.snapshot().raw)
  const length = unlessTimeout(() => readSync(device, bytes, 0, STRUCTURE_BYTES, 0))
  if (raw === undefined || length === undefined) continue
  assert.equal(length, STRUCTURE_BYTES)
  const read = fieldsOf(bytes)
  // An update came between the two, so they cannot be compared.
  if (read.seqCount !== raw.seqCount) continue
  assert.deepEqual({ ...raw, magic: MAGIC }, read)
  comparisons += 1
  updates.add(raw.seqCount)
}
clock.close()
closeSync(device)
console.log(`${comparisons} comparisons over ${updates.size} updates in ${looks} looks`)

// The host may lose its CPU in the middle of an update. After 100 ms of that both readers give up.
function unlessTimeout(read) {
  try {
    return read()
  } catch (error) {
    if (['ETIMEDOUT', 'ERR_VMCLOCK_TIMEOUT'].includes(error.code)) return undefined
    throw error
  }
}
