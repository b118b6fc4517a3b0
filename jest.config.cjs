// Jest tests only that the package loads under Jest. ava runs all other tests.
module.exports = {
  roots: ['<rootDir>/__test__'],
  testMatch: ['**/*.jest.cjs'],
  testEnvironment: 'node',
  transform: {},
}
