BEGIN TRANSACTION;
CREATE TABLE active (
	id INTEGER NOT NULL CHECK (id = 1), 
	version TEXT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(version) REFERENCES versions (version)
);
INSERT INTO "active" VALUES(1,'5d922f30012a');
CREATE TABLE epochs (
	job INTEGER NOT NULL, 
	epoch INTEGER NOT NULL, 
	report TEXT NOT NULL, 
	PRIMARY KEY (job, epoch), 
	FOREIGN KEY(job) REFERENCES jobs (id)
);
INSERT INTO "epochs" VALUES(1,1,'{"epoch":1,"num_epochs":2,"loss":4.0957560539245605,"validation":{"num_queries":40,"rule_accuracy":0.5,"excess_nll":1.7888427161397258,"exact_match":0.05084745762711865,"book_accuracy":0.44},"seconds":0.8690387250007916,"seconds_left":0.8690387250007916,"at":"2026-11-25T01:34:59.888314Z"}');
INSERT INTO "epochs" VALUES(1,2,'{"epoch":2,"num_epochs":2,"loss":3.380258083343506,"validation":{"num_queries":40,"rule_accuracy":0.5508474576271186,"excess_nll":1.5330322467209114,"exact_match":0.0847457627118644,"book_accuracy":0.44},"seconds":1.9312969420006993,"seconds_left":0.0,"at":"2026-11-25T01:35:00.950543Z"}');
INSERT INTO "epochs" VALUES(2,1,'{"epoch":1,"num_epochs":2,"loss":4.323161602020264,"validation":{"num_queries":40,"rule_accuracy":0.5135135135135135,"excess_nll":1.7773694067815715,"exact_match":0.12612612612612611,"book_accuracy":0.07},"seconds":1.0539374990003125,"seconds_left":1.0539374990003125,"at":"2026-11-25T01:35:09.878496Z"}');
INSERT INTO "epochs" VALUES(2,2,'{"epoch":2,"num_epochs":2,"loss":3.4158146381378174,"validation":{"num_queries":40,"rule_accuracy":0.5225225225225225,"excess_nll":1.5673491571131983,"exact_match":0.10810810810810811,"book_accuracy":0.06},"seconds":1.8908005570001478,"seconds_left":0.0,"at":"2026-11-25T01:35:10.715544Z"}');
INSERT INTO "epochs" VALUES(3,1,'{"epoch":1,"num_epochs":2,"loss":4.009378433227539,"validation":{"num_queries":40,"rule_accuracy":0.6030534351145038,"excess_nll":1.6128961375394384,"exact_match":0.1450381679389313,"book_accuracy":0.095},"seconds":1.1707631269991907,"seconds_left":1.1707631269991907,"at":"2026-11-25T01:35:20.350147Z"}');
INSERT INTO "epochs" VALUES(3,2,'{"epoch":2,"num_epochs":2,"loss":3.248322010040283,"validation":{"num_queries":40,"rule_accuracy":0.4198473282442748,"excess_nll":1.4757670378276024,"exact_match":0.08396946564885496,"book_accuracy":0.055},"seconds":2.3678307779991883,"seconds_left":0.0,"at":"2026-11-25T01:35:21.547234Z"}');
CREATE TABLE jobs (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	state TEXT NOT NULL, 
	phase TEXT, 
	reason TEXT, 
	recipe TEXT NOT NULL, 
	config TEXT NOT NULL, 
	promote TEXT NOT NULL, 
	created TEXT NOT NULL, 
	started TEXT, 
	ended TEXT, 
	version TEXT, 
	promoted BOOLEAN NOT NULL, 
	gate TEXT
);
INSERT INTO "jobs" VALUES(1,'succeeded',NULL,'version 5d922f30012a is active: its rule_accuracy is 0.550432, below 1 and its excess_nll is 1.540911, above the 0.000510 of version e0bdc690093e by more than 0.002','default','{"num_samples":200,"num_epochs":2,"batch_size":64,"learning_rate":0.005,"seed":1,"resample":true,"labels_per_query":8,"hold_out":true,"shuffle":true,"mask_padding":true,"warm_up_steps":0,"schedule":"cosine","beta2":0.95,"weight_decay":1.5,"max_grad_norm":1.0,"early_stopping":null}','always','2026-11-25T01:34:57.893797+00:00','2026-11-25T01:34:57.899118+00:00','2026-11-25T01:35:07.744885+00:00','5d922f30012a',1,'{"passed":false,"verdict":"its rule_accuracy is 0.550432, below 1 and its excess_nll is 1.540911, above the 0.000510 of version e0bdc690093e by more than 0.002","min_rule_accuracy":1.0,"excess_nll_tolerance":0.002,"candidate":{"num_queries":100,"rule_accuracy":0.5504322766570605,"excess_nll":1.5409112101744806,"exact_match":0.08069164265129683,"book_accuracy":0.328},"active":{"num_queries":100,"rule_accuracy":1.0,"excess_nll":0.0005102981250812988,"exact_match":0.21037463976945245,"book_accuracy":0.146},"active_version":"e0bdc690093e"}');
INSERT INTO "jobs" VALUES(2,'succeeded',NULL,'version c0f676881a59 is kept, and not put in: promote is never','default','{"num_samples":200,"num_epochs":2,"batch_size":64,"learning_rate":0.005,"seed":2,"resample":true,"labels_per_query":8,"hold_out":true,"shuffle":true,"mask_padding":true,"warm_up_steps":0,"schedule":"cosine","beta2":0.95,"weight_decay":1.5,"max_grad_norm":1.0,"early_stopping":null}','never','2026-11-25T01:35:07.847663+00:00','2026-11-25T01:35:07.849793+00:00','2026-11-25T01:35:17.294792+00:00','c0f676881a59',0,'{"passed":false,"verdict":"its rule_accuracy is 0.502959, below 1 and its excess_nll is 1.576258, above the 1.528958 of version 5d922f30012a by more than 0.002","min_rule_accuracy":1.0,"excess_nll_tolerance":0.002,"candidate":{"num_queries":100,"rule_accuracy":0.5029585798816568,"excess_nll":1.5762580136412734,"exact_match":0.10059171597633136,"book_accuracy":0.068},"active":{"num_queries":100,"rule_accuracy":0.5325443786982249,"excess_nll":1.5289577380277046,"exact_match":0.10059171597633136,"book_accuracy":0.334},"active_version":"5d922f30012a"}');
INSERT INTO "jobs" VALUES(3,'succeeded',NULL,'version ca7d1af00abd is kept, and not put in: its rule_accuracy is 0.528846, below 1','default','{"num_samples":200,"num_epochs":2,"batch_size":64,"learning_rate":0.005,"seed":3,"resample":true,"labels_per_query":8,"hold_out":true,"shuffle":true,"mask_padding":true,"warm_up_steps":0,"schedule":"cosine","beta2":0.95,"weight_decay":1.5,"max_grad_norm":1.0,"early_stopping":null}','if_better','2026-11-25T01:35:17.388091+00:00','2026-11-25T01:35:17.390609+00:00','2026-11-25T01:35:29.627105+00:00','ca7d1af00abd',0,'{"passed":false,"verdict":"its rule_accuracy is 0.528846, below 1","min_rule_accuracy":1.0,"excess_nll_tolerance":0.002,"candidate":{"num_queries":100,"rule_accuracy":0.5288461538461539,"excess_nll":1.4482690974876207,"exact_match":0.10256410256410256,"book_accuracy":0.064},"active":{"num_queries":100,"rule_accuracy":0.5641025641025641,"excess_nll":1.542953942242917,"exact_match":0.11538461538461539,"book_accuracy":0.39},"active_version":"5d922f30012a"}');
INSERT INTO "jobs" VALUES(4,'cancelled',NULL,'it was cancelled','default','{"num_samples":2000,"num_epochs":1000,"batch_size":200,"learning_rate":0.005,"seed":0,"resample":true,"labels_per_query":8,"hold_out":true,"shuffle":true,"mask_padding":true,"warm_up_steps":100,"schedule":"cosine","beta2":0.95,"weight_decay":1.5,"max_grad_norm":1.0,"early_stopping":null}','if_better','2026-11-25T01:35:29.700001+00:00','2026-11-25T01:35:29.702610+00:00','2026-11-25T01:35:33.720900+00:00',NULL,0,NULL);
INSERT INTO "jobs" VALUES(5,'running','training',NULL,'default','{"num_samples":2000,"num_epochs":1000,"batch_size":200,"learning_rate":0.005,"seed":0,"resample":true,"labels_per_query":8,"hold_out":true,"shuffle":true,"mask_padding":true,"warm_up_steps":100,"schedule":"cosine","beta2":0.95,"weight_decay":1.5,"max_grad_norm":1.0,"early_stopping":null}','if_better','2026-11-25T01:35:33.727574+00:00','2026-11-25T01:35:33.729920+00:00',NULL,NULL,0,NULL);
CREATE TABLE versions (
	version TEXT NOT NULL, 
	created TEXT NOT NULL, 
	job INTEGER NOT NULL, 
	card TEXT NOT NULL, 
	PRIMARY KEY (version), 
	FOREIGN KEY(job) REFERENCES jobs (id)
);
INSERT INTO "versions" VALUES('5d922f30012a','2026-11-25T01:35:07.737724+00:00',1,'{"name":"menny","created":"2026-11-25T01:35:04Z","recipe":"default","config":{"num_samples":200,"num_epochs":2,"batch_size":64,"learning_rate":0.005,"seed":1,"resample":true,"labels_per_query":8,"hold_out":true,"shuffle":true,"mask_padding":true,"warm_up_steps":0,"schedule":"cosine","beta2":0.95,"weight_decay":1.5,"max_grad_norm":1.0,"early_stopping":null},"metrics":{"num_queries":100,"rule_accuracy":0.5504322766570605,"excess_nll":1.5409112101744806,"exact_match":0.08069164265129683,"book_accuracy":0.328},"test_metrics":{"num_queries":40,"rule_accuracy":0.5,"excess_nll":1.5524399005335086,"exact_match":0.09,"book_accuracy":0.475},"training_seconds":1.93,"parent":"e0bdc690093e","versions":{"menny":"0.1.0","mlx":"0.32.4","numpy":"2.4.6","python":"3.11.7"},"sha256":"5d922f30012ab3a6e4fb538215c28ee1b9e130ca6956b0de5a1c1ec51907a874","proof":null}');
INSERT INTO "versions" VALUES('c0f676881a59','2026-11-25T01:35:17.290345+00:00',2,'{"name":"menny","created":"2026-11-25T01:35:14Z","recipe":"default","config":{"num_samples":200,"num_epochs":2,"batch_size":64,"learning_rate":0.005,"seed":2,"resample":true,"labels_per_query":8,"hold_out":true,"shuffle":true,"mask_padding":true,"warm_up_steps":0,"schedule":"cosine","beta2":0.95,"weight_decay":1.5,"max_grad_norm":1.0,"early_stopping":null},"metrics":{"num_queries":100,"rule_accuracy":0.5029585798816568,"excess_nll":1.5762580136412734,"exact_match":0.10059171597633136,"book_accuracy":0.068},"test_metrics":{"num_queries":40,"rule_accuracy":0.55,"excess_nll":1.5679001722687274,"exact_match":0.13333333333333333,"book_accuracy":0.08},"training_seconds":1.89,"parent":"5d922f30012a","versions":{"menny":"0.1.0","mlx":"0.32.4","numpy":"2.4.6","python":"3.11.7"},"sha256":"c0f676881a593fa9659339301b431c131b63d2479f952e91000279ccd0acbd8a","proof":null}');
INSERT INTO "versions" VALUES('ca7d1af00abd','2026-11-25T01:35:29.623894+00:00',3,'{"name":"menny","created":"2026-11-25T01:35:26Z","recipe":"default","config":{"num_samples":200,"num_epochs":2,"batch_size":64,"learning_rate":0.005,"seed":3,"resample":true,"labels_per_query":8,"hold_out":true,"shuffle":true,"mask_padding":true,"warm_up_steps":0,"schedule":"cosine","beta2":0.95,"weight_decay":1.5,"max_grad_norm":1.0,"early_stopping":null},"metrics":{"num_queries":100,"rule_accuracy":0.5288461538461539,"excess_nll":1.4482690974876207,"exact_match":0.10256410256410256,"book_accuracy":0.064},"test_metrics":{"num_queries":40,"rule_accuracy":0.5071428571428571,"excess_nll":1.4542938159168195,"exact_match":0.07142857142857142,"book_accuracy":0.05},"training_seconds":2.37,"parent":"5d922f30012a","versions":{"menny":"0.1.0","mlx":"0.32.4","numpy":"2.4.6","python":"3.11.7"},"sha256":"ca7d1af00abd88e64d5da83506d4dacb5a8cd8715e623d84b8b437edb4ccbbab","proof":null}');
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('jobs',5);
COMMIT;
PRAGMA user_version = 1;
