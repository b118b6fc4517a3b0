// A time daemon on a PTP clock reports no error to the kernel, so only the operator knows how far the host's clock may
// be off. Here chronyd follows the PTP clock of the vmclock device, whose page the host writes.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import {
  chronydDirectories,
  chronyWithoutNetwork,
  clockPrograms,
  endChronyd,
  startChronydOn,
} from '../chrony.mjs'
import { withGuest } from '../guest.mjs'
import { inShell } from '../in-guest.mjs'

const READINGS = { short: 10_000, long: 100_000 }
const UNBOUNDED = { short: 2_000, long: 20_000 }
const TALK_MS = 1_200_000

// The device's time is the truth here, so the host's clock is off by nothing.
const HOST_ERROR_NS = 1_000
// The driver of this kernel gives TAI.
const REFCLOCK = 'refclock PHC /dev/ptp0 poll -2 dpoll -4 offset -37'
// As systemd-timesyncd does: an offset for the kernel's loop (STA_PLL), and an error of 0.
const LIKE_TIMESYNCD = './adjtimex --status 1 --offset 40 --maxerror 0 --esterror 0'
// A report of 0 after chronyd's 0 looks like none, and then nothing explains the offset.
const BY_ZEROS = /^(zero-error|slewed)$/

export const ownGuests = {
  async 'chrony on a PTP clock with --host-error gives a true bound, and timesyncd’s zeros give none'(
    prepared,
    { isShort },
  ) {
    if (prepared.machine.name !== 'x86-64') return 'chronyd runs in the guest of x86-64'
    const form = isShort ? 'short' : 'long'
    const directory = await clockPrograms()
    const adjtimex = ['adjtimex', join(directory, 'usr/sbin/adjtimex')]
    const programs = [adjtimex, ...chronyWithoutNetwork(directory)]
    await withGuest(prepared, { programs }, async (guest) => {
      await inShell(guest, chronydDirectories)
      const talk = await guest.talk('host-error.mjs', [`${HOST_ERROR_NS}`], { timeoutMs: TALK_MS })
      const ask = async (line, expected) => {
        const answer = await talk.ask(line)
        assert.match(answer, expected, `${line}: ${answer}`)
        return answer
      }
      await ask(startChronydOn(REFCLOCK, ['makestep 0.1 -1', 'cmdport 0']), /^done/)
      await ask('publish stated', /^published$/)
      await ask('bounded', /"part":"time-error","by":"operator"/)
      const shown = await talk.ask(`compare ${READINGS[form]}`)
      assert.match(shown, /^\d+ readings off by \d+ ns at most, within bounds of /)
      console.log(`    ${shown}`)
      // Without the operator's word chronyd's 0 counts as unknown, and its other figures as they are.
      await ask('publish unstated', /^published$/)
      const unstated = /^\d+ readings, \d+ with a bound$/
      console.log(`    unstated: ${await ask(`noneFalse ${UNBOUNDED[form]}`, unstated)}`)
      await ask('publish stated', /^published$/)
      await ask('bounded', /"part":"time-error","by":"operator"/)
      await ask(endChronyd, /^done/)
      await ask(`zeros ${LIKE_TIMESYNCD}`, BY_ZEROS)
      await ask(`none ${UNBOUNDED[form]}`, BY_ZEROS)
      await talk.end()
    })
  },
}
