// Runs the package in a container: a root of its own, without /sys, and without /dev except the device.

import assert from 'node:assert/strict'
import { inShell } from '../in-guest.mjs'

const ROOT = '/tmp/container'

export const inGuest = {
  async 'a container without /sys reads the time if it has the device'(guest) {
    const run = (wanted) =>
      inShell(guest, `chroot ${ROOT} sh -c 'cd /rig/programs && node container.mjs ${wanted}'`)
    const device = `${ROOT}/dev/vmclock0`
    // A bind mount of the root alone, without the file systems that are mounted on it.
    await inShell(
      guest,
      `mkdir ${ROOT} && mount --bind / ${ROOT} && mount -t proc proc ${ROOT}/proc`,
    )
    try {
      assert.deepEqual(await run('without'), ['without'])
      await inShell(guest, `touch ${device} && mount --bind /dev/vmclock0 ${device}`)
      assert.deepEqual(await run('with'), ['with'])
      await inShell(guest, `umount ${device} && rm ${device}`)
    } finally {
      await inShell(guest, `umount ${ROOT}/proc && umount ${ROOT} && rmdir ${ROOT}`)
    }
  },
}
