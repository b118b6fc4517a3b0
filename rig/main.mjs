// `npm run rig -- MACHINE [PROGRAM.mjs [ARGUMENT…]]` boots a guest, runs the program in its Node, and
// ends with the program's exit code. Without one it says what there is in the guest.
//
// A program is one file, and may import Node's own modules and `vmclock`. A name without a slash is
// also looked for in rig/programs/.

import { existsSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { asProgram, explain, rootFolder, timed } from '../tools/command.mjs'
import { prepareGuest, withGuest } from './guest.mjs'
import { machineNamed, machines } from './machines.mjs'

const USAGE = `usage: npm run rig -- ${machines.map(({ name }) => name).join('|')} [PROGRAM.mjs [ARGUMENT…]]`

// The shell's own for a command that was used wrongly or could not be started.
const UNUSABLE = 2
const NOT_STARTED = 125

// Two hours: whoever starts a program by hand also ends it.
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
  return join(rootFolder, 'rig/programs', basename(program))
}

await asProgram(import.meta.url, main)
