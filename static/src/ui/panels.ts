/** What is shown on demand, and comes in a file of its own. */

export { MessageHits } from './MessageHits';
export { ShortcutsDialog } from './ShortcutsDialog';
