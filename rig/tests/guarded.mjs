// Time on a guest whose device has only a marker, as on most hypervisors of today: a bound that a migration
// makes false is gone in the first stamp after it. The guest is stopped for seconds while it stamps, and its
// device's marker changes before it goes on.

import assert from 'node:assert/strict'
import { setTimeout } from 'node:timers/promises'
import {
  adjtimexFor,
  askChronyd,
  chronyInGuest,
  clockPrograms,
  endChronyd,
  networkCommands,
  startChronyd,
  withTimeServer,
} from '../chrony.mjs'
import { withClone, withGuest } from '../guest.mjs'
import { inShell, program } from '../in-guest.mjs'
import { FLAGS } from '../page.mjs'
import { Stamps, startPublisher } from '../stamps.mjs'

const MIGRATIONS = { short: 1, long: 20 }
const READINGS = { short: 10_000, long: 100_000 }
const SOME_MS = 2_000
const BEFORE_MS = 300
// Updates of the daemon after a disruption, or after a start that cannot know of one.
const UPDATES = 8

const PAGE = '/tmp/guarded-page'
// An emulated CPU does not call its counter invariant.
const ALLOWED = { allowUntrustedCounter: true }
const IN_PROCESS = { source: 'process', ...ALLOWED }
const PUBLISHED = { path: PAGE }
const HAS_GENERATION = { flags: FLAGS.VM_GEN_COUNTER_PRESENT }
const NOTIFIES = { flags: FLAGS.VM_GEN_COUNTER_PRESENT | FLAGS.NOTIFICATION_PRESENT }

// An interval so long that only the device's notification lets the publisher follow sooner.
const publisher = (more = '') => startPublisher(PAGE, `--interval 1000ms ${more}`)
// A publisher that ended stays as a zombie, because nothing waits for it.
const endPublisher = (signal) =>
  `kill -${signal} $(cat /tmp/publisher); while grep -qs '^State:.[^Z]' /proc/$(cat /tmp/publisher)/status; do sleep 0.1; done`

const MANNERS = {
  'that steps': ['makestep 0.1 -1'],
  'that steps at first': ['makestep 1 3'],
  'that slews': [],
}

const ROOT = '/tmp/guarded-container'

export const inGuest = {
  async 'a clock whose device cannot be trusted gives time without a bound, and says why'(guest) {
    const shown = await program(guest, 'guard-states.mjs', ['states'], (text) => {
      if (text === 'begin the update\n') guest.page.begin()
      if (text === 'end the update\n') guest.page.end()
    })
    console.log(`    ${shown.filter((line) => !line.endsWith(' the update')).join('\n    ')}`)
  },

  async 'a container without the device gives time without a bound, and says why'(guest) {
    await inShell(
      guest,
      `mkdir ${ROOT} && mount --bind / ${ROOT} && mount -t proc proc ${ROOT}/proc && mount -t sysfs sysfs ${ROOT}/sys`,
    )
    try {
      await program(guest, 'guard-states.mjs', ['publish'])
      // The page lies on the root's file system, which the container shares.
      const inContainer = `chroot ${ROOT} sh -c 'cd /rig/programs && node guard-states.mjs container'`
      const [shown] = await inShell(guest, inContainer)
      console.log(`    ${shown}`)
    } finally {
      await inShell(guest, `umount ${ROOT}/sys ${ROOT}/proc && umount ${ROOT} && rmdir ${ROOT}`)
    }
  },
}

export const ownGuests = {
  async 'a guest whose device has only a marker gets time at once, and a true bound from its daemon'(
    prepared,
    { isShort },
  ) {
    await withStamps(prepared, HAS_GENERATION, async (stamps) => {
      const source = await stamps.open(ALLOWED)
      assert.equal(source.kind, 'process')
      assert.equal(source.guard.state, 'guarded')
      // It was started late, and cannot know of a migration before.
      assert.match(await stamps.ask('bound'), /^none: /)
      const updates = await stamps.synchronize()
      assert.ok(updates >= UPDATES, `a bound after ${updates} updates`)
      const wanted = isShort ? READINGS.short : READINGS.long
      while (stamps.bounded < wanted) await stamps.stamp(SOME_MS, 'undisturbed')
      console.log(
        `    a bound after ${updates} updates; ${stamps.bounded} stamps with a bound held the host’s time`,
      )
    })
  },

  async 'no stamp keeps its bound across a migration, in the maker’s process and beside it'(
    prepared,
    { isShort },
  ) {
    const migrations = isShort ? MIGRATIONS.short : MIGRATIONS.long
    for (const [name, options] of Object.entries({ process: IN_PROCESS, published: PUBLISHED })) {
      for (const isNotified of [true, false]) {
        const when = `${name}, ${isNotified ? 'notified' : 'not notified'}`
        await withStamps(prepared, isNotified ? NOTIFIES : HAS_GENERATION, async (stamps) => {
          if (options === PUBLISHED) await stamps.shell(publisher())
          await stamps.open(options)
          await stamps.ask('watch')
          for (let count = 0; count < migrations; count++) {
            await stamps.synchronize()
            await stamps.ask('token')
            await stamps.ask('events')
            const runs = await stamps.migrate(when, { isNotified, isClone: count % 2 === 1 })
            assertNewMarker(runs, when)
            assert.equal(await stamps.ask('isContinuous'), 'false')
            const events = JSON.parse(await stamps.ask('events'))
            const expected = count % 2 === 1 ? ['disruption', 'generation'] : ['disruption']
            assert.deepEqual(
              events.map(({ type }) => type),
              expected,
              when,
            )
          }
          report(when, stamps, migrations)
        })
      }
    }
  },

  async 'an error that the operator stated ends with a migration, unless it is to outlive it'(
    prepared,
    { isShort },
  ) {
    const migrations = isShort ? 1 : MIGRATIONS.long
    await withStamps(prepared, NOTIFIES, async (stamps) => {
      for (let count = 0; count < migrations; count++) {
        await stamps.setClock()
        const stated = `--max-error ${await stamps.errorUs()}us`
        await stamps.shell(`${publisher(stated)}`)
        await stamps.open(PUBLISHED)
        assert.match(await stamps.ask('bound'), /^\d+$/)
        const runs = await stamps.migrate('a stated error', { isNotified: count % 2 === 0 })
        assertNewMarker(runs, 'a stated error')
        assert.ok(runs.every(({ isBounded }) => !isBounded))
        await stamps.stamp(SOME_MS, 'after a stated error')
        assert.match(await stamps.ask('bound'), /^none: stated-error-voided/)
        // Neither does it come back with another publisher of the same page.
        await stamps.shell(endPublisher('KILL'))
        await stamps.shell(`${publisher(stated)}`)
        assert.match(await stamps.ask('bound'), /^none: stated-error-voided/)
        await stamps.ask('close')
        await stamps.shell(`${endPublisher('TERM')}; rm ${PAGE}`)
      }
      // An operator who answers for the time after a migration too. Here he is right: he allows for the stop.
      await stamps.setClock()
      await stamps.shell(`${publisher('--max-error 10s --max-error-after-migration')}`)
      await stamps.open(PUBLISHED)
      const runs = await stamps.migrate('an error for after a migration', { isNotified: true })
      assertNewMarker(runs, 'an error for after a migration')
      assert.match(await stamps.ask('bound'), /^\d+$/)
      report('stated errors', stamps, migrations + 1)
    })
  },

  async 'a maker that was dead during a migration, or starts after it, states no bound'(
    prepared,
    { isShort },
  ) {
    const migrations = isShort ? 1 : MIGRATIONS.long
    await withStamps(prepared, HAS_GENERATION, async (stamps) => {
      for (let count = 0; count < migrations; count++) {
        for (const signal of ['KILL', 'TERM']) {
          const when = `a publisher that ended by SIG${signal}`
          await stamps.shell(`${publisher(signal === 'TERM' ? '--keep-on-exit' : '')}`)
          await stamps.open(PUBLISHED)
          await stamps.synchronize()
          await stamps.shell(endPublisher(signal))
          const runs = await stamps.migrate(when)
          assertNewMarker(runs, when)
          assert.ok(runs.every(({ isBounded }) => !isBounded))
          await stamps.shell(`${publisher()}`)
          // The kernel's own figure is false now. No update of its daemon came since.
          await stamps.stamp(SOME_MS, `${when} and started again`)
          assert.match(await stamps.ask('bound'), /^none: /)
          await stamps.ask('close')
          await stamps.shell(`${endPublisher('TERM')}; rm ${PAGE}`)
        }
        for (const [name, options] of Object.entries({
          process: IN_PROCESS,
          published: PUBLISHED,
        })) {
          const when = `first started after a migration, ${name}`
          await stamps.open({ path: '/dev/vmclock0' })
          await stamps.setClock()
          await stamps.migrate(when)
          await stamps.ask('close')
          if (options === PUBLISHED) await stamps.shell(`${publisher()}`)
          await stamps.open(options)
          await stamps.stamp(SOME_MS, when)
          assert.match(await stamps.ask('bound'), /^none: /, when)
          await stamps.ask('close')
          if (options === PUBLISHED) await stamps.shell(`${endPublisher('TERM')}; rm ${PAGE}`)
        }
      }
      report('dead and late makers', stamps, 4 * migrations)
    })
  },

  async 'after a migration under chronyd the bound returns, and is true'(prepared, { isShort }) {
    if (prepared.machine.name !== 'x86-64') return 'chronyd runs on x86-64'
    const migrations = isShort ? 1 : 3
    const programs = await clockPrograms()
    const options = chronyInGuest(programs, prepared.parts)
    await withTimeServer(programs, (port) =>
      withStamps(
        prepared,
        HAS_GENERATION,
        async (stamps) => {
          for (const line of networkCommands) await stamps.shell(line)
          await stamps.open(IN_PROCESS)
          const manners = Object.entries(MANNERS)
          for (const [manner, lines] of isShort ? manners.slice(0, 1) : manners) {
            await stamps.setClock()
            await stamps.shell(startChronyd(port, lines))
            await untilBound(stamps, `chronyd ${manner}`)
            for (let count = 0; count < migrations; count++) {
              assertNewMarker(await stamps.migrate(`chronyd ${manner}`), manner)
              const seconds = await untilBound(stamps, `chronyd ${manner}, after a migration`)
              const [, behind] = /System time\s*: ([^;]+)/.exec(await stamps.shell(askChronyd))
              console.log(
                `    chronyd ${manner}: a bound again ${seconds} s after a migration; then ${behind}`,
              )
              await stamps.stamp(SOME_MS, `chronyd ${manner}, bound again`)
            }
            await stamps.shell(endChronyd)
          }
          report('under chronyd', stamps, migrations)
        },
        options,
      ),
    )
  },

  async 'of two devices the one that the maker looked at guards the page'(prepared) {
    const { ownVmclock } = prepared.machine
    if (ownVmclock === undefined) return 'this machine has no device of the emulator’s own'
    await withGuest(prepared, { devices: [ownVmclock] }, async (guest) => {
      const shown = await program(guest, 'guard-states.mjs', ['two'], (text) => {
        if (text === 'change the marker\n') guest.page.write({ disruptionMarker: 2n })
      })
      console.log(`    ${shown.at(-1)}`)
    })
  },

  async 'the first stamp of a clone has the new generation and no bound'(prepared) {
    await withStamps(prepared, NOTIFIES, async (stamps, guest) => {
      for (const options of [IN_PROCESS, PUBLISHED]) {
        if (options === PUBLISHED) await stamps.shell(publisher())
        await stamps.open(options)
        await stamps.synchronize()
        await stamps.ask('token')
        await stamps.align()
        assert.equal(await stamps.ask('stamp 3000'), 'stamping')
        // The guest has to take a stamp before it is saved.
        await setTimeout(BEFORE_MS)
        const snapshot = await guest.snapshot()
        // The original goes on undisturbed.
        await stamps.next()
        const generations = []
        for (const generation of [8n, 9n]) {
          await withClone(
            snapshot,
            ({ page }) =>
              page.write({ disruptionMarker: 200n + generation, vmGenerationCounter: generation }),
            async (clone) => {
              const talk = clone.resumeTalk()
              const runs = JSON.parse(await talk.next())
              const [before] = runs
              assert.equal(before.isBounded, true)
              const isAfter = ({ vmGeneration }) => vmGeneration !== before.vmGeneration
              const after = runs.slice(runs.findIndex(isAfter))
              assert.ok(after.every(isAfter))
              assert.ok(after.every(({ isBounded }) => !isBounded))
              // The maker gives no time while it measures the counter's rate again.
              const given = after.find(({ code }) => code === undefined)
              generations.push(BigInt(given.vmGeneration) - BigInt(before.vmGeneration))
              assert.equal(await talk.ask('isContinuous'), 'false')
              await talk.end()
            },
          )
        }
        assert.deepEqual(generations, [1n, 2n])
        await stamps.ask('close')
        if (options === PUBLISHED) await stamps.shell(`${endPublisher('TERM')}; rm ${PAGE}`)
      }
    })
  },
}

async function withStamps(prepared, fields, work, options = { programs: [] }) {
  const adjtimex = await adjtimexFor(prepared.machine)
  const programs = [...options.programs, ['adjtimex', adjtimex]]
  return await withGuest(prepared, { ...options, programs }, async (guest) => {
    const stamps = await Stamps.begin(guest, fields)
    await work(stamps, guest)
    await stamps.end()
  })
}

function assertNewMarker(runs, when) {
  // The maker gives no time while it measures the counter's rate again, so a stamp may fail.
  const given = runs.filter(({ code }) => code === undefined)
  assert.ok(given.length > 0, `${when}: no stamp after the stop`)
  const markers = new Set(given.map(({ disruptionMarker }) => disruptionMarker))
  assert.equal(markers.size, 1, `${when}: several markers after one migration: ${[...markers]}`)
}

/** Stamps until there is a bound, and judges all of it. Returns how many seconds it took. */
async function untilBound(stamps, when) {
  const startMs = performance.now()
  while (!/^\d+$/.test(await stamps.ask('bound'))) {
    assert.ok(performance.now() < startMs + 600_000, `${when}: no bound`)
    await stamps.stamp(SOME_MS, when)
  }
  return ((performance.now() - startMs) / 1000).toFixed(0)
}

function report(what, { bounded, unbounded, after }, migrations) {
  console.log(
    `    ${what}: ${migrations} migrations, ${after} stamps after them, 0 false bounds; ${bounded} stamps with a bound, ${unbounded} without`,
  )
}
