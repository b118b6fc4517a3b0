const required = require('vmclock')
const stampWith = require('./stamp-with.cjs')

import('vmclock').then((imported) => stampWith(required, imported))
