// Each clock reads its own page, in any number and any thread. The native part finds the first sixteen
// clocks of a process faster than the others.

import { Worker } from 'node:worker_threads'
import test from 'ava'
import { READING_SLOT_COUNT } from 'vmclock'
import { evaluate, isEmulated } from './node-command'
import { liveFields, newPath, open, page } from './pages'

const MANY = 40

// The kernel's default of `vm.max_map_count` is 65,530. An emulator takes minutes for so many clocks.
const MORE_THAN_MAPPINGS = isEmulated ? 500 : 66_000

test('each of many clocks reads its own page', (t) => {
  const clocks = Array.from({ length: MANY }, (_, number) => {
    const made = page(t, {
      ...liveFields(t),
      timeSec: BigInt(1_800_000_000 + 1_000_000 * number),
      disruptionMarker: BigInt(number),
    })
    return open(t, made.path)
  })
  const slots = new BigInt64Array(READING_SLOT_COUNT)
  for (const clock of [...clocks, ...clocks.reverse()]) {
    const number = Number(clock.continuityToken().disruptionMarker)
    const startMs = 1_800_000_000_000 + 1_000_000_000 * number
    const isOwn = (ms: number) => ms >= startMs && ms < startMs + 1_000_000_000
    t.true(isOwn(Number(clock.nowNs() / 1_000_000n)))
    t.true(isOwn(clock.nowMs()))
    t.is(clock.read().disruptionMarker, BigInt(number))
    clock.readInto(slots)
    t.is(slots[6], BigInt(number))
    t.true(clock.isContinuous(clock.continuityToken()))
  }
  t.is(new Set(clocks.map((clock) => clock.continuityToken().disruptionMarker)).size, MANY)
})

test('clocks that several workers open and drop read their own pages', async (t) => {
  const paths = Array.from({ length: 4 }, (_, number) => {
    const made = page(t, { ...liveFields(t), disruptionMarker: BigInt(number) })
    return made.path
  })
  const program = `
    const { parentPort, workerData } = require('node:worker_threads')
    const { VmClock } = require('vmclock')
    let wrong = 0
    for (let round = 0; round < 30; round++) {
      const clocks = Array.from({ length: 8 }, () => VmClock.open(workerData.path))
      for (let reading = 0; reading < 200; reading++) {
        for (const clock of clocks) {
          if (clock.read().disruptionMarker !== workerData.marker) wrong++
        }
      }
      // Some are closed, and the garbage collector frees the others.
      for (const clock of clocks.slice(0, 4)) clock.close()
    }
    parentPort.postMessage(wrong)`
  const answers = paths.map(
    (path, number) =>
      new Promise<number>((resolve, reject) => {
        const worker = new Worker(program, {
          eval: true,
          workerData: { path, marker: BigInt(number) },
        })
        worker.once('message', resolve).once('error', reject)
      }),
  )
  t.deepEqual(await Promise.all(answers), [0, 0, 0, 0])
})

test('clocks that are opened, closed and collected many times read their own pages', async (t) => {
  const { path } = page(t, liveFields(t))
  const other = newPath(t)
  const markers = await evaluate<string[]>(
    `const { VmClock } = require('vmclock')
    const { VmClockPage } = require('vmclock/testing')
    const [path, other] = ${JSON.stringify([path, other])}
    VmClockPage.create(other, { disruptionMarker: 5n }).close()
    const seen = new Set()
    let turns = 0
    function turn() {
      for (let count = 0; count < 20; count++) {
        const clock = VmClock.open(turns % 2 === 0 ? path : other)
        seen.add(turns % 2 + ' ' + clock.continuityToken().disruptionMarker + ' ' + clock.isContinuous(clock.continuityToken()))
        if (count % 2 === 0) clock.close()
      }
      gc()
      if (++turns < 30) return setImmediate(turn)
      console.log(JSON.stringify([...seen].sort()))
    }
    turn()`,
    ['--expose-gc'],
  )
  t.deepEqual(markers, ['0 0 true', '1 5 true'])
})

test('more clocks than a process has mappings share one mapping, and are freed', async (t) => {
  const { path } = page(t, liveFields(t))
  const { mappings, read, left } = await evaluate<{
    mappings: number
    read: string
    left: number
  }>(
    `const { readFileSync } = require('node:fs')
    const { VmClock } = require('vmclock')
    const path = ${JSON.stringify(path)}
    const count = () => readFileSync('/proc/self/maps', 'utf8').split(path).length - 1
    let clock
    for (let number = 0; number < ${MORE_THAN_MAPPINGS}; number++) clock = VmClock.open(path)
    const found = { mappings: count(), read: clock.read().status }
    clock.close()
    clock = undefined
    function wait() {
      gc()
      if (count() > 0) return setTimeout(wait, 10)
      console.log(JSON.stringify({ ...found, left: count() }))
    }
    wait()`,
    ['--expose-gc'],
  )
  t.deepEqual({ mappings, read, left }, { mappings: 1, read: 'synchronized', left: 0 })
})
