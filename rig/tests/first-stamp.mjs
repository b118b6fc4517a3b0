// Runs the guide's first program in a guest whose device has only a marker: alone, and beside a publisher. The
// guide shows what it prints there.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { rootDirectory } from '../../tools/command.mjs'
import { inShell, program } from '../in-guest.mjs'
import { startPublisher } from '../stamps.mjs'

const GUIDE = 'docs/getting-started.md'
const PAGE = '/run/vmclock/page'

export const inGuest = {
  async 'the guide’s first program gives a stamp with its bound, or says why there is none'(guest) {
    const text = readFileSync(join(rootDirectory, GUIDE), 'utf8')
    const [, source] = /## The first stamp\n\n```ts\n([\s\S]*?)```/.exec(text)
    // An emulated x86 CPU does not call its counter invariant.
    const isTrusted = guest.machine.name !== 'x86-64'
    const options = isTrusted ? '' : '{ allowUntrustedCounter: true }'
    const shown = source.replace('VmClock.open()', `VmClock.open(${options})`)
    const [, ...transcripts] = [...text.matchAll(/^```text\n(.*?)^```$/gms)].map(([, body]) => body)
    // The console takes one line.
    const encoded = Buffer.from(shown).toString('base64')
    await inShell(guest, `echo ${encoded} | base64 -d > first-stamp.mjs`)

    guest.removeTime()
    guest.page.write({ flags: 0n })
    try {
      const alone = await program(guest, 'first-stamp.mjs', [])
      print('alone', alone)
      assert.match(alone[0], /^\d+ ns since 1970, without a bound: \S+$/)
      assert.match(alone.join(' '), /kind: 'process'.*state: 'guarded'/)
      // The guide's guest is the emulated one of x86.
      if (!isTrusted) assert.equal(withoutFigures(alone.join('\n')), withoutFigures(transcripts[0]))

      await inShell(guest, 'mkdir -p /run')
      await inShell(guest, startPublisher(PAGE, '--max-error 50ms'))
      const beside = await program(guest, 'first-stamp.mjs', [])
      print('beside a publisher', beside)
      assert.match(beside[0], /^\d+ ns since 1970, off by at most \d+ ns$/)
      assert.match(beside.join(' '), /kind: 'published'.*state: 'guarded'/)
      assert.equal(withoutFigures(beside.join('\n')), withoutFigures(transcripts[1]))
    } finally {
      await inShell(guest, `kill $(cat /tmp/publisher); sleep 1; rm -rf ${PAGE} first-stamp.mjs`)
      guest.page.write(guest.timeFields)
    }
  },
}

function withoutFigures(text) {
  return text.trimEnd().replaceAll(/\d{8,}/g, '0')
}

function print(where, lines) {
  console.log(`    ${where}:\n      ${lines.join('\n      ')}`)
}
