/** The users that the command line trusts with a page: `--trusted-uid` and `$VMCLOCK_TRUSTED_UIDS`. */

import { readFileSync } from 'node:fs'
import { InvalidArgumentError } from 'commander'
import { printable } from './escape'
import { integerFrom } from './figures'

const parse = integerFrom(0, 2 ** 32 - 1)

/** Parses one user number, and adds it to those of the options before. */
export function collectUid(text: string, before: readonly number[] = []): readonly number[] {
  return [...before, parse(text)]
}

/** Returns the users of the options and of the environment, and warns of one that is nobody in particular. */
export function trustedUids(named: readonly number[] = []): readonly number[] {
  const uids = [...named, ...fromEnvironment()]
  const overflow = overflowUid()
  if (overflow !== undefined && uids.includes(overflow)) {
    process.stderr.write(
      `warning: user ${overflow} stands for every user that this namespace does not map; all of them can decide the time\n`,
    )
  }
  return uids
}

function fromEnvironment(): readonly number[] {
  const text = process.env['VMCLOCK_TRUSTED_UIDS'] ?? ''
  try {
    return text.split(/[\s,]+/).flatMap((uid) => (uid === '' ? [] : [parse(uid)]))
  } catch {
    throw new InvalidArgumentError(
      `error: VMCLOCK_TRUSTED_UIDS must be user numbers with commas between them, and is ${printable(JSON.stringify(text.slice(0, 80)))}`,
    )
  }
}

// The number of all owners that this user namespace does not map; undefined if it maps every user.
function overflowUid(): number | undefined {
  try {
    const uid = Number(readFileSync('/proc/sys/kernel/overflowuid', 'utf8'))
    const ranges = readFileSync('/proc/self/uid_map', 'utf8').trim().split('\n')
    const isMapped = ranges.some((range) => {
      const [first = 0, , count = 0] = range.trim().split(/\s+/).map(Number)
      return uid >= first && uid < first + count
    })
    return isMapped ? undefined : uid
  } catch {
    return undefined
  }
}
