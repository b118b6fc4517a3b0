// The kinds of machine that a guest can have.

import { aarch64 } from './aarch64.mjs'
import { x86 } from './x86-64.mjs'

export const machines = [x86, aarch64]

export function machineNamed(name) {
  return machines.find((machine) => machine.name === name)
}
