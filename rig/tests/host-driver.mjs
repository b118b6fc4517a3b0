// A page as version 3 of the proposed host driver writes it: without errors, with a marker of 0, and with a promise of
// monotonic time. The driver is not merged, so the host of this test writes the page that the guest's own driver maps.

import assert from 'node:assert/strict'
import { inShell } from '../in-guest.mjs'
import { FLAGS, pairWithHost } from '../page.mjs'

const TIME_MONOTONIC = 0x80n
const DRIFT_PPM = 100n
const BACK_SEC = 1000n
// Another node of the same device.
const MAKE = 'mknod /dev/vmclock_host c $(cat /sys/class/misc/vmclock0/dev | tr : " ")'

/** Returns the fields of the driver's two modes: TAI where the host knows the offset, and UTC elsewhere. */
function modes({ timeSec, taiOffsetSec, ...fields }) {
  const always = TIME_MONOTONIC | FLAGS.NOTIFICATION_PRESENT
  const silent = {
    ...{ ...fields, disruptionMarker: 0n, timeMaxerrorNanosec: 0n },
    counterPeriodMaxerrorRateFracSec: 0n,
  }
  const offsetSec = -taiOffsetSec
  return {
    // The driver writes the offset with this sign.
    tai: {
      ...{ ...silent, timeSec, timeType: 1, taiOffsetSec: offsetSec },
      flags: always | FLAGS.TAI_OFFSET_VALID,
    },
    utc: {
      ...{ ...silent, timeSec: timeSec - BigInt(offsetSec), timeType: 0, taiOffsetSec: 0 },
      flags: always,
    },
  }
}

export const inGuest = {
  async 'the host driver’s page gives a true bound only with the errors that a caller supplies'(
    guest,
  ) {
    await guest.writeTime()
    const { timeFields } = guest
    const errorNs = timeFields.timeMaxerrorNanosec
    await inShell(guest, MAKE)
    try {
      for (const [mode, fields] of Object.entries(modes(timeFields))) {
        guest.page.write(fields)
        const dialogue = await guest.talk('host-driver.mjs', [`${errorNs}`, `${DRIFT_PPM}`])
        const { answer, epochNs, widthNs } = await pairWithHost(() => dialogue.ask())
        const [earliestNs, latestNs] = answer.split(' ').map(BigInt)
        assert.ok(
          earliestNs <= epochNs + widthNs / 2n && epochNs - widthNs / 2n <= latestNs,
          `${mode}: the guest reads ${earliestNs} to ${latestNs}, the host ${epochNs} within ${widthNs / 2n}`,
        )
        guest.page.write({ timeSec: fields.timeSec - BACK_SEC })
        await dialogue.end()
      }
    } finally {
      guest.page.write({ disruptionMarker: 1n, ...timeFields })
      await inShell(guest, 'rm /dev/vmclock_host')
    }
  },
}
