#!/bin/sh
/** The `vmclock` command: names, arguments and options. The code of each command is in `cli/`. */

import { Argument, Command, CommanderError, Option } from 'commander'
import { version } from '../package.json'
import { CHECK_HELP, type CheckOptions, check } from './cli/check'
import { demo } from './cli/demo'
import { DOCTOR_HELP, type DoctorOptions, doctor } from './cli/doctor'
import { printable } from './cli/escape'
import {
  durationMs,
  durationNs,
  filePath,
  integerFrom,
  numberFrom,
  offsetNs,
  pageMode,
  shellCommand,
} from './cli/figures'
import { METRICS_HELP, type MetricsOptions, metrics } from './cli/metrics'
import { listenAddress } from './cli/metrics-server'
import { type NowOptions, now } from './cli/now'
import { EXIT, EXIT_HELP, errorText, reportError, reportUsage } from './cli/output'
import { addPageOptions, addReadingOptions, PATH_HELP } from './cli/page-options'
import { type PtpOptions, ptp } from './cli/ptp'
import { PUBLISH_HELP, type PublishOptions, publish } from './cli/publish'
import { keepIgnoredSignals } from './cli/signals'
import { type StatusOptions, status } from './cli/status'
import { guardStreams } from './cli/streams'
import { WAIT_HELP, type WaitOptions, wait } from './cli/wait'
import { WATCH_HELP, type WatchOptions, watch } from './cli/watch'
import { VmClockError } from './errors'
import { SAMPLED_CLOCKS } from './sampled-clock'
import { SOURCE_CHOICES } from './time-source'

// Read before the arguments are parsed, so that usage errors are JSON as well.
const asJson = process.argv.includes('--json')

process.on('uncaughtException', (error) => process.exit(exitCodeFor(error)))
// A command that runs for long says itself what is to be done, once it has begun.
guardStreams((error) => process.exit(error === undefined ? EXIT.OK : reportError(error, asJson)))
keepIgnoredSignals()

const program = new Command('vmclock')
  .description("Error-bounded time from the hypervisor's vmclock page.")
  .version(version)
  .exitOverride()
  .configureOutput({ outputError: () => {}, writeErr: (text) => process.stderr.write(lines(text)) })
  .showSuggestionAfterError()
  .helpCommand(false)

addPageOptions(command('status', 'show a page, where it comes from, and what it means'))
  .argument('[path]', PATH_HELP, filePath)
  .action((path: string | undefined, options: StatusOptions) => {
    status(path, options)
  })

addReadingOptions(command('now', 'show the time once, with its error bound'))
  .argument('[path]', PATH_HELP, filePath)
  .action((path: string | undefined, options: NowOptions) => {
    now(path, options)
  })

addReadingOptions(command('check', 'exit with 0 if the time can be used now, for probes'))
  .argument('[path]', PATH_HELP, filePath)
  .addHelpText('after', CHECK_HELP)
  .action((path: string | undefined, options: CheckOptions) => {
    check(path, options)
  })

addReadingOptions(command('wait', 'wait until the time has a bound, for starts of services'))
  .argument('[path]', PATH_HELP, filePath)
  .option(
    '--timeout <duration>',
    'give up after this time, 1ms to 24h (default: never)',
    durationMs('1ms', '24h'),
  )
  .addHelpText('after', WAIT_HELP)
  .action(async (path: string | undefined, options: WaitOptions) => {
    process.exitCode = await wait(path, options)
  })

addReadingOptions(
  command('watch', 'show the time live, and report every event of the machine and its clock'),
)
  .argument('[path]', PATH_HELP, filePath)
  .option(
    '--interval <duration>',
    'polling interval where the kernel does not notify, 1ms to 1h (default: 100ms)',
    durationMs('1ms', '1h'),
  )
  .option('--on-disruption <command>', 'shell command to run after each disruption', shellCommand)
  .option(
    '--on-restore <command>',
    'shell command to run after each restore or clone',
    shellCommand,
  )
  .option('--no-stamps', 'print events only, and not the time once per second')
  .addHelpText('after', WATCH_HELP)
  .action(async (path: string | undefined, options: WatchOptions) => {
    process.exitCode = await watch(path, options)
  })

addReadingOptions(command('metrics', 'print, write or serve metrics of the page for Prometheus'))
  .argument('[path]', PATH_HELP, filePath)
  .option('--file <path>', 'write them to this file, such as vmclock.prom', filePath)
  .option(
    '--interval <duration>',
    'write the file again and again, 1s to 1h (default: write it once)',
    durationMs('1s', '1h'),
  )
  .option(
    '--listen <address>',
    'serve them on [HOST:]PORT of loopback, such as 9464 or [::1]:9464',
    listenAddress,
  )
  .addHelpText('after', METRICS_HELP)
  .action(async (path: string | undefined, options: MetricsOptions) => {
    process.exitCode = await metrics(path, options)
  })

command('ptp', 'show a PTP clock of the kernel: its time, capabilities and offset')
  .argument('[clock]', 'name or path, such as vmclock0 or /dev/ptp0 (default: vmclock0)')
  .option('--samples <count>', 'number of samples, 1 to 25', integerFrom(1, 25), 5)
  .addOption(
    new Option('--clock <clock>', 'system clock to compare with')
      .choices(SAMPLED_CLOCKS)
      .default('realtime'),
  )
  .action((clock: string | undefined, options: PtpOptions) => {
    ptp(clock, options)
  })

command('doctor', 'check this machine, and say what is missing and how to fix it')
  .argument('[path]', PATH_HELP, filePath)
  .option('--udev-rule', 'only print the udev rules that let every user read the device')
  .addHelpText('after', DOCTOR_HELP)
  .action((path: string | undefined, options: DoctorOptions) => {
    process.exitCode = doctor(path, options)
  })

command('publish', "publish a page from this machine's clock until SIGTERM, SIGINT or quit")
  .argument('[path]', 'the page (default: /run/vmclock/page)', filePath)
  .addOption(
    new Option('--shape <shape>', 'content of the page')
      .choices(['time', 'marker', 'marker-and-generation'])
      .default('time'),
  )
  .addOption(
    new Option(
      '--generation <when>',
      'generation counter on a page with time; auto: if this machine has a source of one',
    )
      .choices(['auto', 'yes', 'no'])
      .default('auto'),
  )
  .addOption(
    new Option('--from <source>', 'source of the time; auto: the best that works')
      .choices(SOURCE_CHOICES)
      .default('auto'),
  )
  .option(
    '--interval <duration>',
    'time between two updates of the page, 100ms to 1s (default: 250ms)',
    durationMs('100ms', '1s'),
  )
  .option(
    '--max-error <duration>',
    "bound of this machine's clock error, such as 5ms; you answer for it",
    durationNs,
  )
  .option(
    '--host-error <duration>',
    "error of the host's clock that no daemon and no driver reports, such as 100us; you answer for it",
    durationNs,
  )
  .option(
    '--max-error-after-migration',
    '--max-error holds after a migration too; you answer for it',
  )
  .option(
    '--allow-unguarded',
    "state a bound although the machine's vmclock device cannot be looked at; you answer for it",
  )
  .option('--keep-on-exit', 'leave the page as it is at the end, for the next publisher')
  .option(
    '--tai-minus-utc <seconds>',
    'TAI - UTC, 10 to 255, if the kernel does not know it',
    integerFrom(10, 255),
  )
  .option(
    '--wander <ppm>',
    "how far the counter's rate may differ from its measured average, in parts per million (default: 15)",
    numberFrom(0, 1e6),
  )
  .option(
    '--offset <duration>',
    "for tests: add this to the page's time and to its bound, -1h to 1h, such as -20ms",
    offsetNs('1h'),
  )
  .option('--mode <octal>', "the file's permission bits, such as 640", pageMode)
  .option('--allow-untrusted-counter', 'publish even if the kernel does not trust the counter')
  .addHelpText('after', PUBLISH_HELP)
  .action(async (path: string | undefined, options: PublishOptions) => {
    process.exitCode = await publish(path, options)
  })

command('demo', 'publish a page in one process, read it in another, and report two events')
  .option('--seconds <seconds>', 'duration', numberFrom(1, 86_400), 5)
  .action(async (options: { json?: boolean; seconds: number }) => {
    process.exitCode = await demo(options)
  })

// Commander's own prints all help for an unknown command, without an error.
program
  .command('help')
  .description('display help for command')
  .addArgument(
    new Argument('[command]', 'the command').choices(program.commands.map((known) => known.name())),
  )
  .addOption(new Option('--json').hideHelp())
  .action((name: string | undefined) => {
    const named = program.commands.find((known) => known.name() === name)
    ;(named ?? program).help()
  })

program.parseAsync().catch((error: unknown) => {
  process.exitCode = exitCodeFor(error)
})

function command(name: string, description: string): Command {
  return program
    .command(name)
    .description(description)
    .option('--json', 'print JSON, one value per line')
    .addHelpText('after', EXIT_HELP)
}

function exitCodeFor(error: unknown): number {
  if (!(error instanceof CommanderError)) {
    // The command line holds all arguments, so a refused one is an invalid command line.
    return VmClockError.isVmClockError(error) && error.code === 'ERR_VMCLOCK_INVALID_ARGUMENT'
      ? reportUsage(errorText(error), asJson)
      : reportError(error, asJson)
  }
  // The user asked for help or the version, and it was printed.
  if (error.exitCode === 0) return EXIT.OK
  // There was no command, so the help was printed.
  if (error.code === 'commander.help') return EXIT.USAGE
  return reportUsage(shortened(error.message.replace(/^error: /, '').replaceAll('\n', ' ')), asJson)
}

// Commander quotes the user's arguments whole.
function shortened(text: string): string {
  return text.replaceAll(/[^\s']{81,}/g, (word) => `${word.slice(0, 40)}…`)
}

// Commander repeats the user's arguments in its texts.
function lines(text: string): string {
  return text.split('\n').map(printable).join('\n')
}
