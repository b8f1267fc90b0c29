/** What is shown on demand, and comes in a file of its own. */

export { ConfirmDialog } from './ConfirmDialog';
export { DeletionToast } from './DeletionToast';
export { EndedBanner } from './EndedBanner';
export { ErrorNote } from './ErrorNote';
export { MessageHits } from './MessageHits';
export { NoAgents, UnknownPage } from './NothingHere';
export { ShortcutsDialog } from './ShortcutsDialog';
