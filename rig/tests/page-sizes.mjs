// Tests a kernel with memory pages of 16 KiB, larger than the usual 4 KiB of a vmclock page. Debian has no
// kernel with memory pages of 64 KiB to test.

import assert from 'node:assert/strict'
import { aarch64, aarch64WithLargePages } from '../aarch64.mjs'
import { prepareGuest, withGuest } from '../guest.mjs'
import { bindAgain, compareFields, inShell, program, trueReading } from '../in-guest.mjs'

export const ownGuests = {
  async 'a kernel with memory pages of 16 KiB maps the device, with the true time'(prepared) {
    if (prepared.machine !== aarch64) return 'this machine has pages of 4 KiB only'
    const large = await prepareGuest(aarch64WithLargePages)
    await withGuest(large, {}, async (guest) => {
      console.log(guest.summary)
      const pageSize = await inShell(guest, 'grep -m 1 KernelPageSize /proc/self/smaps')
      assert.match(pageSize[0], / 16 kB$/)
      await trueReading(guest, 'uapi')
      await compareFields(guest, { comparisons: 1000, updates: 100 })
      const mapped = await program(guest, 'mapping.mjs', [])
      assert.deepEqual(mapped, ['mapped 16384 bytes, size 16384'])

      // The driver offers no device for a page of 4 KiB, which cannot be mapped. Its PTP clock exists.
      guest.page.writeUnguarded({ size: 0x1000 })
      await bindAgain(guest)
      assert.deepEqual(await inShell(guest, 'ls /dev/ | grep -E "vmclock|ptp"'), ['ptp0'])
    })
  },
}
