// What this package promises of the real driver, shown in guests: as few boots as it takes.
//
//   node rig/tests.mjs [--short] [MACHINE…] [FILE…]
//
// runs all of it on every machine, or on those that are named, or only those files of `rig/tests/`. A
// file exports `inGuest`, promises shown in a guest that all files share and that each leaves as it was,
// and `ownGuests`, which boot what they need. A test gets the guest, or what `withGuest` boots one of,
// and `{ isShort }`. One that its machine cannot show gives back the reason.

import { readdirSync } from 'node:fs'
import { basename, join } from 'node:path'
import { asProgram, timed } from '../tools/command.mjs'
import { prepareGuest, withGuest } from './guest.mjs'
import { machines } from './machines.mjs'

const folder = join(import.meta.dirname, 'tests')
const files = readdirSync(folder).map((file) => basename(file, '.mjs'))

/** Runs them; with `isShort` in the form for every change. Says how many passed and failed. */
export async function testGuests({ isShort, machineNames = [], fileNames = [] }) {
  const chosen = fileNames.length === 0 ? files : fileNames
  const modules = await Promise.all(chosen.map((name) => import(join(folder, `${name}.mjs`))))
  const inGuest = modules.flatMap((module) => Object.entries(module.inGuest ?? {}))
  const ownGuests = modules.flatMap((module) => Object.entries(module.ownGuests ?? {}))
  const outcomes = { passed: 0, failed: 0, 'not shown': 0 }
  for (const machine of machines) {
    if (machineNames.length > 0 && !machineNames.includes(machine.name)) continue
    const prepared = await timed(`rig set-up (${machine.name})`, () => prepareGuest(machine))
    const run = async ([promise, test], given) => {
      const outcome = await outcomeOf(promise, () => test(given, { isShort }))
      outcomes[outcome] += 1
      return outcome
    }
    const inOne = [...inGuest]
    while (inOne.length > 0) {
      await withGuest(prepared, {}, async (guest) => {
        console.log(guest.summary)
        // What failed leaves the guest as it may be: the others get another one.
        while (inOne.length > 0 && (await run(inOne.shift(), guest)) !== 'failed');
      })
    }
    for (const test of ownGuests) await run(test, prepared)
  }
  console.log(
    Object.entries(outcomes)
      .map(([outcome, count]) => `${count} ${outcome}`)
      .join(', '),
  )
  return outcomes
}

async function outcomeOf(promise, test) {
  const startMs = performance.now()
  const [outcome, words] = await Promise.resolve()
    .then(test)
    .then(
      (reason) => (reason === undefined ? ['passed'] : ['not shown', reason]),
      (error) => ['failed', error.message],
    )
  const seconds = ((performance.now() - startMs) / 1000).toFixed(1)
  console.log(`  ${outcome}: ${promise} (${seconds} s)`)
  if (words !== undefined) console.log(words)
  return outcome
}

async function main(args) {
  const isShort = args.includes('--short')
  const names = args.filter((name) => name !== '--short')
  const machineNames = names.filter((name) => machines.some((machine) => machine.name === name))
  const fileNames = names.filter((name) => files.includes(name))
  const unknown = names.filter((name) => ![...machineNames, ...fileNames].includes(name))
  if (unknown.length > 0) {
    const known = [...machines.map(({ name }) => name), ...files]
    throw new Error(
      `no machine and no file is named ${unknown.join(', ')}; there are: ${known.join(' ')}`,
    )
  }
  const { failed } = await testGuests({ isShort, machineNames, fileNames })
  if (failed > 0) process.exitCode = 1
}

await asProgram(import.meta.url, main)
