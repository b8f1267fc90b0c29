import { defineConfig } from 'vitest/config';

/** Where `npm run dev` finds a server. */
const SERVER = 'http://127.0.0.1:8080';

export default defineConfig({
  // Relative, so that the page also works below a path.
  base: './',
  build: {
    target: 'es2022',
    // The page's policy allows neither inline scripts nor data: addresses.
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
  },
  server: {
    proxy: {
      // The server refuses an upgrade whose Origin is not its own Host.
      '/ws': { target: SERVER, ws: true, changeOrigin: true, rewriteWsOrigin: true },
    },
  },
  test: {
    include: ['tests/unit/**/*.test.{ts,tsx}'],
    // A test reads the style sheets; otherwise they would be empty.
    css: true,
  },
});
