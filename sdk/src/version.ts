/** The SDK's own version, as told to servers. */
export const VERSION = '0.1.0'
