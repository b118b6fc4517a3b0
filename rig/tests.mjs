// Tests the package with the real Linux driver in emulated guests, with as few boots as possible.
//
//   node rig/tests.mjs [--long] [MACHINE…] [FILE…]
//
// Without names it runs all tests on all machines. Machines run at the same time, each in a process. FILE is a file of `rig/tests/`. Each file exports tests
// by the promise that they keep:
//
//   inGuest      tests that share one guest, and leave it as they found it
//   ownGuests    tests that boot their own guests
//   setUp        makes what its tests need besides a guest, before the machines run
//
// A test gets the guest, or the prepared machine for `withGuest`, and { isShort }. It returns a reason if
// the machine cannot show its promise.

import { readdirSync } from 'node:fs'
import { basename, join } from 'node:path'
import { parseArgs } from 'node:util'
import { asProgram, CommandFailed, runTogether, timed } from '../tools/command.mjs'
import { prepareGuest, withGuest } from './guest.mjs'
import { machines } from './machines.mjs'

const directory = join(import.meta.dirname, 'tests')
const fileNames = readdirSync(directory).map((file) => basename(file, '.mjs'))

async function main(args) {
  const { values, positionals: names } = parseArgs({
    args,
    allowPositionals: true,
    options: { long: { type: 'boolean', default: false } },
  })
  const known = [...machines.map(({ name }) => name), ...fileNames]
  const unknown = names.filter((name) => !known.includes(name))
  if (unknown.length > 0) {
    throw new CommandFailed('rig/tests.mjs', unknown, `there are: ${known.join(' ')}`)
  }
  const named = machines.filter(({ name }) => names.includes(name))
  const machinesToRun = named.length > 0 ? named : machines
  const filesToRun = fileNames.filter((name) => names.includes(name))
  const tests = await load(filesToRun.length > 0 ? filesToRun : fileNames)
  for (const setUp of tests.setUps) await setUp()
  if (machinesToRun.length > 1) return testTogether(machinesToRun, args)
  const counts = { passed: 0, failed: 0, 'not shown': 0 }
  await testMachine(machinesToRun[0], tests, { isShort: !values.long }, counts)
  console.log(
    Object.entries(counts)
      .map(([outcome, count]) => `${count} ${outcome}`)
      .join(', '),
  )
  if (counts.failed > 0) process.exitCode = 1
}

/** Tests each machine by a process of its own. */
async function testTogether(machines, args) {
  const others = args.filter((arg) => !machines.some(({ name }) => name === arg))
  // One after the other, because machines share parts of their set-up.
  for (const machine of machines) await setUpMachine(machine)
  await runTogether(
    machines.map(({ name }) => ({
      label: name,
      command: process.execPath,
      args: [import.meta.filename, name, ...others],
    })),
  )
}

function setUpMachine(machine) {
  return timed(`rig set-up (${machine.name})`, () => prepareGuest(machine))
}

async function load(names) {
  const modules = await Promise.all(names.map((name) => import(join(directory, `${name}.mjs`))))
  const all = (kind) => modules.flatMap((module) => Object.entries(module[kind] ?? {}))
  const setUps = modules.map(({ setUp }) => setUp).filter((setUp) => setUp !== undefined)
  return { inGuest: all('inGuest'), ownGuests: all('ownGuests'), setUps }
}

async function testMachine(machine, { inGuest, ownGuests }, form, counts) {
  const prepared = await setUpMachine(machine)
  const waiting = [...inGuest]
  while (waiting.length > 0) {
    await withGuest(prepared, {}, async (guest) => {
      console.log(guest.summary)
      // A failed test may leave the guest in any state, so the tests after it get another guest.
      while (waiting.length > 0 && (await run(waiting.shift(), guest, form, counts)) !== 'failed');
    })
  }
  for (const test of ownGuests) await run(test, prepared, form, counts)
}

async function run([promise, test], given, form, counts) {
  const startMs = performance.now()
  const { outcome, detail } = await outcomeOf(() => test(given, form))
  const seconds = ((performance.now() - startMs) / 1000).toFixed(1)
  console.log(`  ${outcome}: ${promise} (${seconds} s)`)
  if (detail !== undefined) console.log(detail)
  counts[outcome] += 1
  return outcome
}

async function outcomeOf(test) {
  try {
    const reason = await test()
    return reason === undefined ? { outcome: 'passed' } : { outcome: 'not shown', detail: reason }
  } catch (error) {
    return { outcome: 'failed', detail: error.message }
  }
}

await asProgram(import.meta.url, main)
