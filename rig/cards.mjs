// Boots a guest with emulated network cards, which have PTP clocks, and a kernel that has their drivers.

import { basename, join } from 'node:path'
import { withGuest } from './guest.mjs'
import { inShell } from './in-guest.mjs'

/**
 * Calls `work` with such a guest once the drivers are loaded. Returns a reason if the machine has no cards. `more` are
 * further programs for the guest.
 */
export async function withCards(prepared, work, more = []) {
  const { cards } = prepared.machine
  if (cards === undefined) return 'the tests on x86-64 cover the network cards'
  const kernel = await cards.kernel()
  const drivers = cards.drivers.map((driver) => [basename(driver), join(kernel.modules, driver)])
  const programs = [...drivers, ...more]
  const machine = { ...prepared, parts: { ...prepared.parts, ...kernel } }
  return await withGuest(machine, { devices: cards.devices, programs }, async (guest) => {
    for (const [driver] of drivers) {
      await inShell(guest, `xz -dc ${driver} > /tmp/driver && insmod /tmp/driver`)
    }
    return await work(guest)
  })
}
