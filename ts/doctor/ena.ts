/** Examines the PTP clock (PHC) of Amazon's network card, `ena`, from which a page can be made. */

import { type Finding, ok, unknown, warning } from './diagnosis'
import { type Files, shown } from './files'
import type { ExaminedPage } from './page'
import type { Scene } from './scene'

const NET = '/sys/class/net'
const PCI = '/sys/bus/pci/devices'
// Amazon's own driver has this parameter. The driver of the mainline kernel is configured by devlink.
const PARAMETER = '/sys/module/ena/parameters/phc_enable'

/** A network card of Amazon. */
interface Card {
  /** The network interface. */
  readonly interfaceName: string
  /** The card's place on the PCI bus. */
  readonly slot: string
  /** `/dev/ptpN`; undefined if the card's PTP clock is not there. */
  readonly ptp: string | undefined
}

function cards(files: Files): Card[] {
  return files.names(NET).flatMap((name) => {
    const uevent = files.lines(`${NET}/${name}/device/uevent`)
    if (!uevent.includes('DRIVER=ena')) return []
    const slot = uevent.find((line) => line.startsWith('PCI_SLOT_NAME='))?.slice(14)
    // It becomes a part of a command.
    if (slot === undefined || !/^[\da-f]{4}:[\da-f]{2}:[\da-f]{2}\.\d$/.test(slot)) return []
    const ptp = files.names(`${PCI}/${slot}/ptp`).find((file) => /^ptp\d+$/.test(file))
    return [
      { interfaceName: shown(name), slot, ptp: ptp === undefined ? undefined : `/dev/${ptp}` },
    ]
  })
}

/** The processes that have a PTP clock open. */
interface Users {
  /** The names of those that could be looked at, sorted, each once. */
  readonly names: readonly string[]
  /** The number of processes that could not be looked at. */
  readonly hidden: number
}

/** Looks for the processes that have a device open, as fuser(1) does. */
function usersOf(files: Files, path: string): Users {
  const names = new Set<string>()
  let hidden = 0
  const wanted = path.slice('/dev/'.length)
  for (const pid of files.names('/proc').filter((name) => /^\d+$/.test(name))) {
    const open = files.names(`/proc/${pid}/fd`)
    // A thread of the kernel has no files and no command line.
    if (open.length === 0 && files.bytes(`/proc/${pid}/cmdline`, 1)?.length === 1) hidden += 1
    if (open.some((fd) => files.linkName(`/proc/${pid}/fd/${fd}`) === wanted)) {
      names.add(files.line(`/proc/${pid}/comm`) ?? 'a process')
    }
  }
  return { names: [...names].sort(), hidden }
}

/** Says who has the clock open. All of them share the readings that the card allows. */
function usersText({ names, hidden }: Users): string {
  const known = names.length === 0 ? 'no process that can be seen' : names.join(', ')
  const unknown = hidden === 0 ? '' : ` (${hidden} processes cannot be looked at without root)`
  return `open in: ${known}${unknown}`
}

/**
 * Makes the finding for the first card that has a PTP clock, else for the first card. Returns undefined on a
 * machine without such a card.
 */
export function checkEna({ files }: Scene, page: ExaminedPage): Finding | undefined {
  const all = cards(files)
  const card = all.find(({ ptp }) => ptp !== undefined) ?? all[0]
  if (card === undefined) return undefined
  const { interfaceName, slot, ptp } = card
  const boundFile = `${PCI}/${slot}/phc_error_bound`
  const errorBoundNs = decimal(files.line(boundFile))
  const users = ptp === undefined ? undefined : usersOf(files, ptp)
  const details = {
    ...{ path: ptp, card: interfaceName, slot, errorBoundNs },
    ...{ openIn: users?.names, processesHidden: users?.hidden },
  }
  if (ptp === undefined || users === undefined) {
    return unknown(
      `the network card ${interfaceName} has no PTP clock now; if the instance type has one, this enables it as root: ${enabling(files, slot)}`,
      details,
    )
  }
  if (!files.has(boundFile)) {
    return unknown(
      `${ptp} is the PTP clock of the network card ${interfaceName}. Its driver has no file with an error bound: newer kernels give the bound with each reading, else it needs the operator's figure (--host-error)`,
      details,
    )
  }
  if (errorBoundNs === undefined) {
    return unknown(
      `${ptp} is the PTP clock of the network card ${interfaceName}, and its driver does not know its error now`,
      details,
    )
  }
  if (page.source?.from === 'kernel') {
    return warning(
      `${ptp}, the PTP clock of the network card ${interfaceName}, is at most ${errorBoundNs} ns off, but the page's time comes from the kernel's clock; ${usersText(users)}`,
      `let the process that makes the page read the clock (a udev rule: KERNEL=="ptp[0-9]*", ATTR{clock_name}=="ena*", MODE="0444"), and let it choose the source (--from auto)`,
      details,
    )
  }
  return ok(
    `${ptp} is the PTP clock of the network card ${interfaceName}, at most ${errorBoundNs} ns off; ${usersText(users)}`,
    details,
  )
}

function decimal(text: string | undefined): string | undefined {
  return text !== undefined && /^[1-9]\d{0,9}$/.test(text) && text !== '4294967295'
    ? text
    : undefined
}

function enabling(files: Files, slot: string): string {
  return files.has(PARAMETER)
    ? "echo 'options ena phc_enable=1' > /etc/modprobe.d/ena.conf, and reboot"
    : `devlink dev param set pci/${slot} name enable_phc value true cmode driverinit && devlink dev reload pci/${slot} (the network is interrupted for a moment)`
}
