import { createRequire } from 'node:module'
import * as imported from 'vmclock'
import stampWith from './stamp-with.cjs'

stampWith(imported, createRequire(import.meta.url)('vmclock'))
