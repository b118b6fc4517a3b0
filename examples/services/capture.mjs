// Captures events at a high rate, as market data is: the hot path notes the counter only, and whole batches are
// converted to times and written to an Apache Arrow file. No time is wrong: batches that a migration crossed
// are dropped.
//
// argv: the file to write; without one a file in the temporary directory that is removed

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import {
  Field,
  Float64,
  makeData,
  RecordBatch,
  RecordBatchFileWriter,
  Schema,
  Struct,
  TimestampNanosecond,
  tableFromIPC,
  Uint64,
} from 'apache-arrow'
import { VmClock, VmClockError } from '../../dist/index.mjs'

/** One column for the time, one for how far it may be off, one for the event's own figure. */
const schema = new Schema([
  new Field('time', new TimestampNanosecond('UTC'), false),
  new Field('max_error_ns', new Uint64(), true),
  new Field('price', new Float64(), false),
])

/** Collects events in typed arrays, and makes record batches of them. */
export class Capture {
  #clock
  #token
  #counters
  #prices
  #count = 0
  #batches = []
  /** Events of batches that a disruption made worthless. */
  dropped = 0

  constructor(clock, batchSize) {
    this.#clock = clock
    this.#counters = new BigUint64Array(batchSize)
    this.#prices = new Float64Array(batchSize)
    this.#token = clock.continuityToken()
  }

  /** The hot path: reads the counter, and stores it. */
  event(price) {
    this.#counters[this.#count] = this.#clock.counter()
    this.#prices[this.#count] = price
    this.#count += 1
    if (this.#count === this.#counters.length) this.flush()
  }

  /** Converts what was captured, in one call. */
  flush() {
    const length = this.#count
    if (length === 0) return
    this.#count = 0
    const times = new BigInt64Array(length)
    const counters = this.#counters.subarray(0, length)
    try {
      this.#clock.convertInto(counters, times, this.#token)
      // The bound is largest at one end of the batch, so that one holds for all of it.
      const ends = [counters[0], counters[length - 1]].map(
        (counter) => this.#clock.convert(counter, this.#token).maxErrorNs,
      )
      this.#batches.push(batchOf(times, this.#prices.slice(0, length), largest(ends)))
    } catch (error) {
      if (!VmClockError.isVmClockError(error) || error.code !== 'ERR_VMCLOCK_DISRUPTED') throw error
      // Counters from before mean nothing on this machine, and nobody knows which these are.
      this.dropped += length
      this.#token = this.#clock.continuityToken()
    }
  }

  /** Returns the bytes of an Arrow file with all batches. */
  async toFile() {
    this.flush()
    return await RecordBatchFileWriter.writeAll(this.#batches).toUint8Array()
  }
}

/** The largest bound; undefined if one is unknown. */
function largest(bounds) {
  if (bounds.includes(undefined)) return undefined
  return bounds.reduce((a, b) => (a > b ? a : b))
}

function batchOf(times, prices, maxErrorNs) {
  const { length } = times
  const errors =
    maxErrorNs === undefined
      ? { nullCount: length, nullBitmap: new Uint8Array(Math.ceil(length / 8)) }
      : { nullCount: 0 }
  const [time, error, price] = schema.fields
  const children = [
    makeData({ type: time.type, length, data: times }),
    makeData({
      type: error.type,
      length,
      data: new BigUint64Array(length).fill(maxErrorNs ?? 0n),
      ...errors,
    }),
    makeData({ type: price.type, length, data: prices }),
  ]
  return new RecordBatch(
    schema,
    makeData({ type: new Struct(schema.fields), length, nullCount: 0, children }),
  )
}

/** Captures events until there are enough. */
async function main(file) {
  const clock = VmClock.open()
  const capture = new Capture(clock, 10_000)
  for (let event = 0; event < 100_000; event += 1) capture.event(100 + Math.sin(event))
  writeFileSync(file, await capture.toFile())
  clock.close()
  const table = tableFromIPC(readFileSync(file))
  const times = table.getChild('time').data.flatMap(({ values }) => [...values])
  const spanNs = times.at(-1) - times[0]
  console.log(`${table.numRows} events in ${spanNs} ns, ${capture.dropped} dropped`)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const directory = mkdtempSync(join(tmpdir(), 'vmclock-capture-'))
  try {
    await main(process.argv[2] ?? join(directory, 'events.arrow'))
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}
