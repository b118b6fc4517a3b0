const stampWith = require('./stamp-with.cjs')

const required = {
  vmclock: require('vmclock'),
  ptp: require('vmclock/ptp'),
  doctor: require('vmclock/doctor'),
  testing: require('vmclock/testing'),
}

async function importAll() {
  return {
    vmclock: await import('vmclock'),
    ptp: await import('vmclock/ptp'),
    doctor: await import('vmclock/doctor'),
    testing: await import('vmclock/testing'),
  }
}

importAll().then((imported) => stampWith(required, imported))
