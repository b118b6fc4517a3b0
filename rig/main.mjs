// Boots a guest, runs a program in its Node, and ends with the program's exit code.
//
//   npm run rig -- MACHINE [PROGRAM.mjs [ARGUMENT…]]
//
// Without a program it prints facts about the guest. A program is one file, and may import Node's own modules
// and `vmclock`. A name without a slash can also be a program of rig/programs/.

import { existsSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { asProgram, explain, rootDirectory, timed } from '../tools/command.mjs'
import { prepareGuest, withGuest } from './guest.mjs'
import { machineNamed, machines } from './machines.mjs'

const USAGE = `usage: npm run rig -- ${machines.map(({ name }) => name).join('|')} [PROGRAM.mjs [ARGUMENT…]]`

// Exit codes: a wrong command line, and a guest that did not start.
const UNUSABLE = 2
const NOT_STARTED = 125

// Two hours, because a user who starts a program by hand also ends it.
const PROGRAM_MS = 7_200_000

async function main([machineName, program = 'facts.mjs', ...args]) {
  const machine = machineNamed(machineName)
  const file = [resolve(process.env.INIT_CWD ?? '', program), inRig(program)].find(existsSync)
  if (machine === undefined || file === undefined) {
    console.error(machine === undefined ? USAGE : `no program ${program}\n${USAGE}`)
    process.exitCode = UNUSABLE
    return
  }
  try {
    const prepared = await timed(`rig set-up (${machine.name})`, () => prepareGuest(machine))
    process.exitCode = await withGuest(
      prepared,
      { programs: [[basename(file), file]] },
      (guest) => {
        console.log(guest.summary)
        return guest.run(basename(file), args, {
          onText: (text) => process.stdout.write(text),
          timeoutMs: PROGRAM_MS,
        })
      },
    )
  } catch (error) {
    console.error(explain(error))
    process.exitCode = NOT_STARTED
  }
}

function inRig(program) {
  return join(rootDirectory, 'rig/programs', basename(program))
}

await asProgram(import.meta.url, main)
