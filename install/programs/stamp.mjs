import { createRequire } from 'node:module'
import * as vmclock from 'vmclock'
import * as doctor from 'vmclock/doctor'
import * as ptp from 'vmclock/ptp'
import * as testing from 'vmclock/testing'
import stampWith from './stamp-with.cjs'

const require = createRequire(import.meta.url)

stampWith(
  { vmclock, ptp, doctor, testing },
  {
    vmclock: require('vmclock'),
    ptp: require('vmclock/ptp'),
    doctor: require('vmclock/doctor'),
    testing: require('vmclock/testing'),
  },
)
