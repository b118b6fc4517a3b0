// Saves a guest while Node draws random values, and resumes it three times. Without the protection the clones draw
// the same values, with it none.

import assert from 'node:assert/strict'
import { setTimeout } from 'node:timers/promises'
import { withClone, withGuest } from '../guest.mjs'
import { inShell, unbindDriver } from '../in-guest.mjs'

const CLONES = 3
// More draws than that are saved before.
const LONGEST_RUN_MS = 200
// A program that draws for many rounds.
const PROGRAM_MS = 7_200_000

// Models without the instructions that give random numbers, by the kind of machine.
const WITHOUT_GENERATORS = { 'x86-64': 'max,-rdrand,-rdseed', aarch64: 'cortex-a57' }

// The scale form, which only the suite `clones` runs: fewer rounds where a guest is slower.
const SCALE_ROUNDS = Number(process.env.VMCLOCK_CLONES_ROUNDS ?? 0)
const SHARE_OF_ROUNDS = { 'x86-64': 1, aarch64: 0.2 }
const SCALE_VALUES = 1000

export const ownGuests = {
  async 'three clones draw equal values without the protection, and none with it'(prepared, form) {
    await noneIsEqual(prepared, form)
  },

  async 'three clones draw equal values unprotected, none protected, in the newest Node'(
    prepared,
    form,
  ) {
    const parts = { ...prepared.parts, ...(await prepared.machine.newestNode()) }
    return noneIsEqual({ ...prepared, parts }, form)
  },

  async 'without entropy the protection is refused, or warns, and clones differ all the same'(
    prepared,
  ) {
    await withGuest(prepared, { more: withoutGenerators(prepared) }, async (guest) => {
      const [strict] = await answers(guest, 'throw')
      assert.equal(strict.code, 'ERR_VMCLOCK_UNSUPPORTED')
      assert.match(strict.message, /no entropy that clones would not share/)
      // The refused process draws as before.
      assert.ok(strict.value)
      const seen = await answers(guest, 'warn')
      for (const { entropy, signal, isSynchronous, warnings } of seen) {
        assert.deepEqual([entropy, signal, isSynchronous], ['none', 'page', true])
        assert.ok(warnings.includes('VMCLOCK_NO_ENTROPY'))
      }
      assertDifferent(seen)
    })
  },

  async 'with VMGENID alone, draws wait for the kernel, and fail rather than share'(prepared) {
    const more = withoutGenerators(prepared)
    await withGuest(prepared, { hasVmgenid: true, more }, async (guest) => {
      const seen = await answers(guest, 'throw', async (talk, first) => {
        // This kernel sends no uevent.
        assert.ok(first.failed, JSON.stringify(first))
        console.log(`    a draw without entropy: ${first.failed}`)
        const again = JSON.parse(await talk.ask())
        assert.ok(again.failed)
        // It waits once a restore, not once a draw.
        assert.ok(again.ms < first.ms, `${again.ms} ms, after ${first.ms} ms`)
        return JSON.parse(await talk.ask('reseeded'))
      })
      for (const { entropy, signal } of seen)
        assert.deepEqual([entropy, signal], ['kernel', 'page'])
      assertDifferent(seen)
    })
  },

  async 'entropy and signal are stated with and without generator, VMGENID and page'(
    prepared,
    { isShort },
  ) {
    if (isShort) return 'the long form shows it'
    for (const hasVmgenid of [false, true]) {
      for (const hasGenerator of [true, false]) {
        const more = hasGenerator ? [] : withoutGenerators(prepared)
        const entropy = hasGenerator ? 'hardware' : hasVmgenid ? 'kernel' : undefined
        await withGuest(prepared, { hasVmgenid, more }, async (guest) => {
          assert.deepEqual(await stated(guest), expected(entropy, 'page', true))
          await unbindDriver(guest)
          assert.deepEqual(await stated(guest), expected(entropy, 'none', false))
        })
        console.log(`    VMGENID ${hasVmgenid}, generator ${hasGenerator}: ${entropy ?? 'refused'}`)
      }
    }
  },

  async 'without a page clones share what they draw, until the platform tells of the restore'(
    prepared,
    { isShort },
  ) {
    if (isShort) return 'the long form shows it'
    await withGuest(prepared, {}, async (guest) => {
      await unbindDriver(guest)
      const pairs = await answers(guest, 'throw', async (talk, first) => [
        first,
        JSON.parse(await talk.ask('restored')),
      ])
      for (const { signal } of pairs.flat()) assert.equal(signal, 'none')
      const [before, after] = [0, 1].map((index) => pairs.map((pair) => pair[index]))
      assert.equal(before[0].value, before[1].value)
      assertDifferent(after)
    })
  },
}

async function noneIsEqual(prepared, form) {
  const [rounds, count] = sizeOf(prepared.machine, form)
  await withGuest(prepared, {}, async (guest) => {
    await inShell(guest, 'ifconfig lo up')
    const shared = await oneRound(guest, 'unprotected', count)
    for (const kind of shared.kinds) {
      // Which thread runs first may differ, and with it who draws what.
      if (/main: (randomUUID|randomBytes|getRandomValues|ServerHello|TLS)/.test(kind)) {
        assert.ok(shared.equal.has(kind), `no equal values of ${kind} without the protection`)
      }
    }
    console.log(
      `    without: ${shared.equal.size} of ${shared.kinds.length} kinds have equal values`,
    )
    let atTheBoundary = 0
    for (let round = 0; round < rounds; round++) {
      const seen = await oneRound(guest, 'protected', count)
      assert.deepEqual([...seen.equal], [], `round ${round}`)
      assert.equal(seen.kinds.length, shared.kinds.length)
      atTheBoundary += seen.atTheBoundary
      if (SCALE_ROUNDS > 0) console.log(`    round ${round + 1}: ${seen.values} different values`)
    }
    console.log(
      `    with: no equal value in ${rounds} rounds; saved between last look and return: ${atTheBoundary}`,
    )
  })
}

/** Returns the number of rounds, and of values of each kind in a clone. */
function sizeOf({ name }, { isShort }) {
  if (SCALE_ROUNDS > 0) return [Math.ceil(SCALE_ROUNDS * SHARE_OF_ROUNDS[name]), SCALE_VALUES]
  return isShort ? [1, 10] : [3, 100]
}

function withoutGenerators({ machine }) {
  return ['-cpu', WITHOUT_GENERATORS[machine.name]]
}

// Returns what a protected process says of its entropy and its signal, or that it was refused.
async function stated(guest) {
  const talk = await guest.talk('clone-entropy.mjs', ['throw'])
  const { code, entropy, signal, isSynchronous } = JSON.parse(await talk.ask())
  await talk.end()
  return { code, entropy, signal, isSynchronous }
}

function expected(entropy, signal, isSynchronous) {
  const refused = { code: 'ERR_VMCLOCK_UNSUPPORTED', signal: undefined, isSynchronous: undefined }
  const accepted = { code: undefined, signal, isSynchronous }
  return { entropy, ...(entropy === undefined ? refused : accepted) }
}

// Starts a program that protects itself, saves it, and returns its answer in each of two clones, or what `more` makes
// of that.
async function answers(guest, onNoEntropy, more = (_talk, first) => first) {
  const talk = await guest.talk('clone-entropy.mjs', [onNoEntropy])
  const before = JSON.parse(await talk.ask())
  if (before.code !== undefined) {
    await talk.end()
    return [before]
  }
  const snapshot = await guest.snapshot()
  await talk.end()
  const seen = []
  for (let clone = 0; clone < 2; clone++) {
    await withClone(snapshot, restored, async (clone) => {
      const talk = clone.resumeTalk()
      seen.push(await more(talk, JSON.parse(await talk.ask())))
    })
  }
  return seen
}

function assertDifferent(seen) {
  const values = seen.map(({ value }) => value)
  assert.equal(new Set(values).size, values.length, JSON.stringify(values))
  assert.ok(values.every((value) => /^[0-9a-f]{32}$/.test(value)))
}

// Starts the program, saves the machine while it draws, and compares what the clones draw.
async function oneRound(guest, mode, count) {
  const talk = await guest.talk('clone-draws.mjs', [mode, `${count}`], { timeoutMs: PROGRAM_MS })
  // Wherever the program is then.
  await setTimeout(Math.random() * LONGEST_RUN_MS)
  const snapshot = await guest.snapshot()
  await talk.end()
  const seen = []
  for (let clone = 0; clone < CLONES; clone++) {
    await withClone(snapshot, restored, async (clone) => {
      seen.push(await drawn(clone.resumeTalk({ timeoutMs: PROGRAM_MS })))
    })
  }
  return compared(seen)
}

// Acts as a hypervisor does on a clone: it writes a new generation, and a new identifier of the VMGENID device.
function restored(clone) {
  clone.page.write({ disruptionMarker: 2n, vmGenerationCounter: 2n })
  return clone.renewVmgenid()
}

async function drawn(talk) {
  const kinds = new Map()
  let atTheBoundary = 0
  for (;;) {
    const { kind, values, count } = JSON.parse(await talk.next())
    if (kind === 'end') return { kinds, atTheBoundary }
    if (values === undefined) atTheBoundary += count
    else kinds.set(kind, values)
  }
}

function compared(seen) {
  const owners = new Map()
  const equal = new Set()
  for (const [clone, { kinds }] of seen.entries()) {
    for (const [kind, values] of kinds) {
      for (const value of values) {
        const owner = owners.get(value)
        if (owner !== undefined && owner !== clone) equal.add(kind)
        owners.set(value, clone)
      }
    }
  }
  const [{ kinds }] = seen
  return {
    kinds: [...kinds.keys()],
    equal,
    values: owners.size,
    atTheBoundary: seen.reduce((sum, one) => sum + one.atTheBoundary, 0),
  }
}
