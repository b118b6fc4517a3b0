// Counts the instructions of the core's calls with callgrind. Unlike times they do not vary, so each has a limit.

import { join } from 'node:path'
import { CommandFailed, capture, succeeds } from '../tools/command.mjs'
import { debianDirectory } from '../tools/debian.mjs'
import { buildCore } from './peers.mjs'

// The limits: the number that rustc 1.95 makes for x86-64, with bounds and without leap seconds, plus a tenth.
// `convert` is one counter of many.
const MOST = { counter: 7, now_ns: 40, now_ms: 41, read: 81, is_continuous: 50, convert: 21 }

// As many as the program makes of each call.
const COUNTED_CALLS = 100_000

/** Returns the instructions of each call; undefined if there is no valgrind. */
export async function countInstructions(program) {
  if (!(await succeeds('valgrind', ['--version']))) return undefined
  return countBy('valgrind', {}, program)
}

/** Counts on x86-64, with Debian's valgrind if no other is installed, and fails above the limits. */
export async function checkInstructions() {
  const program = await buildCore()
  const counts =
    (await countInstructions(program)) ?? (await countBy(...(await debianValgrind()), program))
  const faults = []
  for (const [call, most] of Object.entries(MOST)) {
    console.log(`x64: ${call}: ${counts[call]} instructions executed, of ${most}`)
    // A count of 0 means that the compiler removed the loop.
    if (!(counts[call] > 0 && counts[call] <= most)) {
      faults.push(`${call}: ${counts[call]} instructions, and not 1 to ${most}`)
    }
  }
  if (faults.length > 0) throw new CommandFailed('callgrind', [], `\n${faults.join('\n')}`)
}

async function debianValgrind() {
  const directory = await debianDirectory({ name: 'valgrind', packages: ['valgrind'] })
  return [
    join(directory, 'usr/bin/valgrind'),
    { VALGRIND_LIB: join(directory, 'usr/libexec/valgrind') },
  ]
}

async function countBy(valgrind, env, program) {
  const executed = async (call) => {
    const words = ['--tool=callgrind', '--callgrind-out-file=/dev/null', '--log-fd=1']
    const said = await capture(valgrind, [...words, program, 'count', call], { env })
    return Number(/Collected : (\d+)/.exec(said)?.[1])
  }
  // The instructions of the process and the loop without any call.
  const base = await executed('nothing')
  const counts = {}
  for (const call of Object.keys(MOST)) {
    counts[call] = Math.round(((await executed(call)) - base) / COUNTED_CALLS)
  }
  return counts
}
