// A part of the guest with a root of its own, and with nothing of /dev and /sys but what it is given.

import assert from 'node:assert/strict'
import { inShell } from '../in-guest.mjs'

const ROOT = '/tmp/container'

export const inGuest = {
  async 'a container without the device is told so, and with it reads the time, without /sys'(
    guest,
  ) {
    const run = (wanted) =>
      inShell(guest, `chroot ${ROOT} sh -c 'cd /rig/programs && node container.mjs ${wanted}'`)
    const device = `${ROOT}/dev/vmclock0`
    // The root alone: what is mounted on it stays behind.
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
