// How many instructions a call of the core takes, counted by callgrind: they do not vary as times do.

import { capture, succeeds } from '../tools/command.mjs'

const CALLS = ['counter', 'now_ns', 'now_ms', 'read', 'is_continuous', 'convert']

// As many as the program makes of each.
const COUNTED_CALLS = 100_000

/** Instructions a call; undefined where there is no valgrind. */
export async function countInstructions(program) {
  if (!(await succeeds('valgrind', ['--version']))) return undefined
  // What the process and the loop take without any call.
  const base = await collected(program, 'nothing')
  const counts = {}
  for (const call of CALLS) {
    counts[call] = Math.round(((await collected(program, call)) - base) / COUNTED_CALLS)
  }
  return counts
}

async function collected(program, call) {
  const words = ['--tool=callgrind', '--callgrind-out-file=/dev/null', '--log-fd=1']
  const said = await capture('valgrind', [...words, program, 'count', call])
  return Number(/Collected : (\d+)/.exec(said)?.[1])
}
