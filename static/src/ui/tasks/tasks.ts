/** What only tasks need: it comes in a file of its own. */

export { TaskBar } from './TaskBar';
export { TasksPage } from './TasksPage';
