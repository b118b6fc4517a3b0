// Describes the machine that the benchmark runs on.

import { readFileSync } from 'node:fs'
import { availableParallelism, cpus, loadavg, release, totalmem } from 'node:os'
import { CommandFailed, capture, succeeds } from '../tools/command.mjs'

/** Returns the facts about the machine and its tools. */
export async function describeMachine() {
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cpus: availableParallelism(),
    memoryMiB: Math.round(totalmem() / 2 ** 20),
    kernel: release(),
    clocksource: firstLine('/sys/devices/system/clocksource/clocksource0/current_clocksource'),
    hypervisor: firstLine('/sys/hypervisor/type') ?? firstLine('/sys/class/dmi/id/sys_vendor'),
    rustc: await version('rustc'),
    cc: await version('cc'),
    load: loadavg()[0],
  }
}

/** Returns the command that pins a program to one of this process's CPUs, or nothing if it cannot be pinned. */
export async function pinned(index) {
  const allowed = allowedCpus()
  if (allowed.length <= index || !(await succeeds('taskset', ['--version']))) return []
  return ['taskset', '-c', String(allowed[allowed.length - 1 - index])]
}

function allowedCpus() {
  const list =
    /^Cpus_allowed_list:\s*(.*)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? ''
  return list.split(',').flatMap((range) => {
    const [first, last = first] = range.split('-').map(Number)
    return Array.from({ length: last - first + 1 }, (_, i) => first + i)
  })
}

async function version(program) {
  try {
    return (await capture(program, ['--version'])).split('\n')[0]
  } catch (error) {
    if (error instanceof CommandFailed) return undefined
    throw error
  }
}

function firstLine(path) {
  try {
    return readFileSync(path, 'utf8').trim() || undefined
  } catch {
    return undefined
  }
}
