// The machines that a guest can have, by the names that the command takes.

import { aarch64 } from './aarch64.mjs'
import { x86 } from './x86-64.mjs'

export const machines = [x86, aarch64]

export function machineNamed(name) {
  return machines.find((machine) => machine.name === name)
}
