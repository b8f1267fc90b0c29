/** The panel of a session's shared document: it comes in a file of its own. */

export { StatePanel } from './StatePanel';
